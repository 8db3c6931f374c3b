"""Forms: what they carry, what they ask, and that the official models accept them."""

from __future__ import annotations

import io
import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from carbontracker.carbon.factors import PUE_SOURCE
from carbontracker.cli import main
from carbontracker.forms import FORMS, Declaration, declared, form_named
from carbontracker.forms.answers import read_answers, template
from carbontracker.forms.form import ORIGINS, Field, Filled, Form, as_json, is_known
from carbontracker.forms.subject import Subject, subject_of
from carbontracker.records import read_runs
from carbontracker.records.ledger import make_ledger
from carbontracker.records.reader import read_run
from tests.support import boamps
from tests.support.form_tables import tables
from tests.support.records import GRAMS, PUE, Made
from tests.support.simulated import Training
from tests.test_job_records import Rank, gpu

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
ANSWERS: dict[str, Any] = {
    "model_name": "tiny",
    "model_version": "1",
    "organization": "ACME",
    "stage": "pretraining",
    "location": "Copenhagen, Denmark",
    "country": "Denmark",
    "training_flops": 1e21,
    "training_tokens": 1e12,
    "parameters": 7e9,
    "lifetime_years": 5,
    "embodied_gco2eq": 700.0,
    "embodied_kg_per_accelerator": 100,
    "functional_unit": "1000 tokens",
    "functional_units": 1e6,
    "energy_supplier": "ACME Power",
    "energy_source": "wind",
    "confidentiality": "public",
    "report_licence": "CC BY 4.0",
    "report_status": "final",
    "task_family": "text generation",
    "algorithm": "transformers",
    "learning": "selfSupervised",
    "data_type": "token",
    "data_quantity": 1e9,
    "infrastructure": "onPremise",
    "cloud_provider": "none",
    "cloud_region": "none",
    "download_location": "https://models.example/tiny",
    "paper_section": "Appendix B",
    "preliminary_compute": "10 GPU-hours",
    "market_based_gco2eq_per_kwh": 42,
    "contractual_instrument": "guarantees of origin 2026",
}
"""An answer to every question of every form."""


# ---- the three subjects --------------------------------------------------------------------


def job_of_eight_gpus(folder: Path) -> Subject:
    """A measured training on eight simulated GPUs, two processors and their memory."""
    path = Training(epochs=3, moments=4).write(folder / "job.jsonl")
    return subject_of([read_run(path)], "")


def laptop(folder: Path) -> Subject:
    """A training of which no sensor was read, on a laptop whose location is that of a time zone."""
    events = list(Training(epochs=2, moments=4, gpus=0).events())
    place = {"zone": "FR", "name": "France", "how": "time zone Europe/Paris", "guess": True}
    text = json.dumps(events)
    for quality in ("measured", "integrated", "mixed"):
        text = text.replace(f'"{quality}"', '"modelled"')
    events = json.loads(text.replace('"rapl"', '"model"'))
    for event in events:
        for energy in [event.get("energy", {}), event.get("between_epochs", {})]:
            for one in [energy, *energy.get("by_device", {}).values()]:
                if "joules" in one:
                    one["modelled_joules"] = one["joules"]
        if "footprint" in event:
            event["footprint"]["location"] = place
    path = folder / "laptop.jsonl"
    path.write_text("\n".join(map(json.dumps, events)) + "\n", encoding="utf-8")
    return subject_of([read_run(path)], "")


def project(folder: Path) -> Subject:
    """Three runs of which one failed, and a fourth that saw the GPU of the first beside it."""
    runs = folder / "project"
    runs.mkdir()
    for number, made in enumerate(PROJECT):
        (runs / f"{number}.jsonl").write_text(
            "\n".join(map(json.dumps, made.events())) + "\n", encoding="utf-8"
        )
    return subject_of(list(read_runs(runs)), "tiny-lm")


PROJECT = (
    Made("a" * 16, (1000.0, 3000.0), boot_id="b"),
    Made("b" * 16, (2000.0,), began_s=100, boot_id="b"),
    Made("c" * 16, (500.0,), began_s=200, boot_id="b", finished=False),
    Made("d" * 16, (1000.0, 3000.0), boot_id="b"),
)
PROJECT_JOULES = 4000 + 2000 + 500
"""The fourth counts nothing: it saw what the first did."""
STAGES = ("pretraining", "pretraining", "fine-tuning", "evaluation", "development")


def stages(folder: Path, *, only: str = "") -> Subject:
    """Return a project of several stages, or one stage of it."""
    runs = []
    for number, stage in enumerate(STAGES):
        made = Made(
            f"{number:016x}",
            (1000.0 * (number + 1),),
            began_s=100 * number,
            boot_id="b",
            about={"project": "tiny-lm", "stage": stage},
        )
        path = folder / f"stage{number}.jsonl"
        path.write_text("\n".join(map(json.dumps, made.events())) + "\n", encoding="utf-8")
        runs.append(read_run(path))
    chosen = [run for run in runs if only in ("", run.metadata.stage)]
    return subject_of(chosen, "tiny-lm", [run for run in runs if run not in chosen])


SUBJECTS = {"job": job_of_eight_gpus, "laptop": laptop, "project": project, "stages": stages}


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    """Return the three."""
    folder = tmp_path_factory.mktemp("subjects")
    return {name: make(folder) for name, make in SUBJECTS.items()}


# ---- validators ----------------------------------------------------------------------------


def check_cyclonedx(text: str) -> None:
    """Raise what the schema of CycloneDX 1.7, in the package of its makers, objects to."""
    pytest.importorskip("cyclonedx", reason="needs cyclonedx-python-lib (group `forms`)")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    problem = JsonStrictValidator(SchemaVersion.V1_7).validate_str(text)
    if problem is not None:
        raise ValueError(str(problem))


def check_spdx(text: str) -> None:
    """Raise what the model of SPDX 3.0.1, in the package of its makers, objects to."""
    package = pytest.importorskip("spdx_python_model", reason="needs spdx-python-model")
    model = package.v3_0_1
    objects = model.SHACLObjectSet()
    model.JSONLDDeserializer().read(io.BytesIO(text.encode()), objects)
    if objects.missing_ids:
        raise ValueError(f"{objects.missing_ids} are not in the document")
    model.JSONLDSerializer().write(objects, io.BytesIO())  # checks what is required


def check_hf(text: str) -> None:
    """Raise what the parser of model cards objects to, or a value that it does not return."""
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub (group `forms`)")
    data = hub.ModelCard(text).data.to_dict()["co2_eq_emissions"]
    if not data["emissions"] >= 0 or not all(
        isinstance(data[k], str) for k in {*data} - {"emissions"}
    ):
        raise ValueError(str(data))


def check_boamps(text: str) -> None:
    """Raise what the rebuilt schema objects to."""
    jsonschema.validate(json.loads(text), boamps.SCHEMA)


def check_sci(text: str) -> None:
    """Raise if a term of the formula is missing, or the score is not that of the formula."""
    found = json.loads(text)
    total = found["O"]["value"] + found["M"]["value"]
    if abs(found["SCI"]["value"] - total / found["R"]["value"]) > 1e-5 * found["SCI"]["value"]:
        raise ValueError(text)
    if abs(found["O"]["value"] - found["E"]["value"] * found["I"]["value"]) > 1e-4 * total:
        raise ValueError(text)


def check_text(text: str) -> None:
    """Raise if something is still to declare."""
    if "[still to declare" in text or not text.startswith("# "):
        raise ValueError(text)


VALIDATORS: dict[str, Callable[[str], None]] = {
    "cyclonedx": check_cyclonedx,
    "spdx": check_spdx,
    "hf": check_hf,
    "boamps": check_boamps,
    "sci": check_sci,
    **dict.fromkeys(("ai-act", "neurips", "acl", "ghg"), check_text),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_form_with_all_answers_is_valid(
    name: str, subject: str, subjects: dict[str, Subject]
) -> None:
    declaration = declared(name, subjects[subject], ANSWERS)
    assert declaration.missing == []
    assert declaration.still_to_declare == []
    VALIDATORS[name](declaration.text)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("cyclonedx", lambda text: text.replace('"activity"', '"activities"')),
        ("spdx", lambda text: text.replace('"ai_energyQuantity"', '"ai_quantity"')),
        ("spdx", lambda text: text.replace('"ai_energyUnit": "kilowattHour"', '"comment": "x"')),
        ("hf", lambda text: text.replace("emissions: ", "emissions: x")),
        ("boamps", lambda text: text.replace('"high"', '"perfect"')),
        ("boamps", lambda text: text.replace('"taskFamily"', '"family"')),
        ("sci", lambda text: re.sub(r'("SCI": {\s+"value": )', r"\g<1>9", text)),
    ],
)
def test_a_validator_refuses_what_is_wrong(
    name: str, damage: Callable[[str], str], subjects: dict[str, Subject]
) -> None:
    text = declared(name, subjects["job"], ANSWERS).text
    assert damage(text) != text
    with pytest.raises(Exception, match=r"."):  # of whichever library
        VALIDATORS[name](damage(text))


# ---- nothing is guessed --------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_without_answers_nothing_is_filled_that_only_the_user_knows(
    name: str, subject: str, subjects: dict[str, Subject]
) -> None:
    form = form_named(name)
    without = declared(name, subjects[subject], {})
    with_all = declared(name, subjects[subject], ANSWERS)
    assert "asked" not in without.origins.values()
    assert set(without.origins.values()) <= {"carried", "derived", "fixed"}
    needed = {key for key, (_, needed) in form.questions.items() if needed}
    assert needed <= {*without.still_to_declare, *_answered_by_record(form, without)}
    assert set(without.missing) >= needed - _answered_by_record(form, without)
    # Every question that is open is told by name, with what it asks.
    lines = [line for line in without.notes if line.startswith("still to declare: ")]
    assert [line.split(": ")[1] for line in lines] == without.still_to_declare
    # A figure of the record is the same whatever the user answers.
    for one in form.fields:
        if one.origin == "carried" and one.question is None and one.path in without.values:
            assert with_all.values[one.path] == without.values[one.path], one.path


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_each_field_is_known_from_somewhere_or_listed(
    name: str, subject: str, subjects: dict[str, Subject]
) -> None:
    others = [declared(name, one, {}) for key, one in subjects.items() if key != subject]
    for answers in ({}, ANSWERS):
        declaration = declared(name, subjects[subject], answers)
        assert set(declaration.values) == set(declaration.origins)
        assert set(declaration.values) <= {one.path for one in form_named(name).fields}
        for one in form_named(name).fields:
            value = declaration.values.get(one.path)
            origin = declaration.origins.get(one.path)
            if origin is None:
                asked = one.question is not None and one.question.name
                unknown = any(
                    line.startswith(f"not known from the record: {one.path}")
                    for line in declaration.notes
                )
                never = one.origin == "not carried" or (one.origin == "fixed" and not answers)
                assert unknown or never or asked in declaration.still_to_declare, one.path
            elif origin == "asked":
                assert one.question is not None
                assert value == answers[one.question.name], one.path
            elif origin == "fixed":
                same = all(value == other.values.get(one.path) for other in others)
                assert same or answers, one.path
            elif "atetime" in one.path or one.path.endswith(("timestamp", "created")):
                pass  # when the form was filled
            else:  # it is computed, from this record and these answers, and is no constant
                assert one.value is not None
                looked: list[str] = []
                again: Any = one.value(
                    Watched(subjects[subject], looked),  # type: ignore[arg-type]
                    WatchedAnswers(answers, looked),
                )
                assert value == again, one.path
                assert looked, f"{name}: {one.path} is {value!r} whatever the record says"


class Watched:
    """A subject that notes what is looked at."""

    def __init__(self, subject: Subject, looked: list[str]) -> None:
        self._subject, self._looked = subject, looked

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of the subject."""
        self._looked.append(name)
        return getattr(self._subject, name)


class WatchedAnswers(dict[str, Any]):
    """Answers that note what is looked at."""

    def __init__(self, answers: dict[str, Any], looked: list[str]) -> None:
        super().__init__(answers)
        self._looked = looked

    def __contains__(self, name: object) -> bool:
        """Return whether there is such an answer."""
        self._looked.append(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an answer."""
        self._looked.append(name)
        return super().get(name, default)


def test_the_stages_of_a_project_add_up_and_none_is_declared_as_another(
    tmp_path: Path, subjects: dict[str, Subject]
) -> None:
    whole = subjects["stages"]
    assert any("declare each with --stage" in one for one in whole.advice)
    for name in ("cyclonedx", "spdx", "boamps", "hf"):
        assert "stage" in declared(name, whole, {}).still_to_declare
    parts = [stages(tmp_path, only=one) for one in dict.fromkeys(STAGES)]
    assert math.fsum(one.kwh for one in parts) == pytest.approx(whole.kwh)
    assert whole.joules == pytest.approx(1000 * (1 + 2 + 3 + 4 + 5))
    no_stage = {key: value for key, value in ANSWERS.items() if key != "stage"}
    found = {}
    for part in parts:
        declaration = declared("cyclonedx", part, no_stage)
        check_cyclonedx(declaration.text)
        (energy,) = json.loads(declaration.text)["components"][0]["modelCard"]["considerations"][
            "environmentalConsiderations"
        ]["energyConsumptions"]
        found[energy["activity"]] = energy["activityEnergyCost"]["value"]
        assert not any("--stage" in one for one in part.advice)
    joules = {"training": 3000, "fine-tuning": 3000, "validation": 4000, "other": 5000}
    assert found == pytest.approx({key: one * PUE / 3.6e6 for key, one in joules.items()}, 1e-5)


def _answered_by_record(form: Form, declaration: Declaration) -> set[str]:
    """Return the questions that the record has the answer of."""
    return {
        one.question.name
        for one in form.fields
        if one.question is not None and one.path in declaration.values
    }


def test_a_location_by_the_time_zone_is_not_declared(subjects: dict[str, Subject]) -> None:
    for name in ("hf", "boamps", "ghg"):
        values = declared(name, subjects["laptop"], {}).values
        said = [v for path, v in values.items() if "ethod" not in path and "Descr" not in path]
        assert "France" not in said, name
        assert "location" in declared(name, subjects["laptop"], {}).still_to_declare
    notes = declared("hf", subjects["laptop"], {}).notes
    assert any("the location was not stated (time zone Europe/Paris)" in one for one in notes)
    assert not any("not stated" in one for one in declared("hf", subjects["job"], {}).notes)
    method = declared("hf", subjects["laptop"], {}).values["Environmental Impact/Method"]
    assert "was not stated (time zone Europe/Paris)" in method
    assert declared("ghg", subjects["job"], {}).text.count("Site: East Denmark") == 1


def test_an_average_pue_is_told(tmp_path: Path) -> None:
    events = Made("a" * 16).events()
    for source, told in ((PUE_SOURCE, True), ("given", False)):
        events[0]["pue_source"] = source
        path = tmp_path / "run.jsonl"
        path.write_text("\n".join(map(json.dumps, events)) + "\n", encoding="utf-8")
        advice = subject_of([read_run(path)], "").advice
        assert any("give --pue" in one for one in advice) == told


def test_an_answer_that_differs_from_the_record_is_told(subjects: dict[str, Subject]) -> None:
    notes = declared("ghg", subjects["job"], {"location": "Paris"}).notes
    assert "Electricity/Site: your answer stands for 'East Denmark' of the record" in notes
    same = declared("ghg", subjects["job"], {"location": "East Denmark"}).notes
    assert not any("stands for" in one for one in same)


def test_a_question_means_the_same_in_all_forms() -> None:
    found: dict[str, Any] = {}
    for name in FORMS:
        for key, (question, _) in form_named(name).questions.items():
            assert found.setdefault(key, question) == question
            if question.choices:
                assert question.example in question.choices
    assert set(found) == set(ANSWERS)


# ---- figures -------------------------------------------------------------------------------


def test_the_figures_of_a_job_are_those_of_its_record(subjects: dict[str, Subject]) -> None:
    job = subjects["job"]
    hours = 3 * 864 / 3600
    assert job.gpu_hours == pytest.approx(8 * hours)
    card = declared("hf", job, {}).values
    assert card["co2_eq_emissions/hardware_used"] == "8 x NVIDIA H100"
    assert card["co2_eq_emissions/emissions"] == pytest.approx(job.gco2eq, rel=1e-5)
    report = json.loads(declared("boamps", job, {}).text)
    assert report["measures"][0]["powerConsumption"] == pytest.approx(job.joules / 3.6e6, rel=1e-5)
    assert report["quality"] == "high"  # its error is below 10 %
    act = declared("ai-act", job, {}).values
    assert act["2(e) Energy consumption/Known or estimated"].startswith("known in part")
    boundary = act["2(e) Energy consumption/Boundary"]
    inside, outside = boundary.split(" Outside: ")
    assert all(word in inside for word in ("GPU", "processor", "memory", "PUE of 1.2"))
    assert all(word in outside for word in ("network", "storage", "cooling beyond the PUE"))
    method = act["2(e) Energy consumption/Method"]
    assert all(word in method for word in ("carbontracker 3.0.0", "nvml", "95 %", "torch 2.9.1"))


def test_a_modelled_run_is_declared_as_estimated(subjects: dict[str, Subject]) -> None:
    act = declared("ai-act", subjects["laptop"], {}).values
    assert act["2(e) Energy consumption/Known or estimated"].startswith("estimated: all of it")
    assert act["2(d) Computational resources/Accelerator time"] == "no GPU"
    assert act["2(d) Computational resources/Hardware"] == "2 x Intel Xeon Platinum 8480C"


def test_no_joule_of_a_project_counts_twice(subjects: dict[str, Subject]) -> None:
    whole = subjects["project"]
    assert whole.joules == pytest.approx(PROJECT_JOULES)
    assert whole.kwh == pytest.approx(PROJECT_JOULES * PUE / 3.6e6)
    assert whole.gco2eq == pytest.approx(whole.kwh * GRAMS)
    assert whole.gpu_seconds == pytest.approx(20 + 10 + 10)
    assert whole.hardware["gpu"] == {"X": 1}
    text = declared("neurips", whole, {}).text
    assert "4 records of 4 runs, failed ones included" in text


def test_the_processes_of_a_job_are_one_training(tmp_path: Path) -> None:
    for rank in range(8):
        node = rank // 4
        Rank(
            f"{rank:016x}",
            (1000.0, 1000.0),
            rank=rank,
            world=8,
            uid="u" * 16,
            host=f"node{node}",
            boot_id=f"boot{node}",
            devices=gpu(rank),
        ).write(tmp_path)
    job = subject_of(list(read_runs(tmp_path)), "job")
    assert job.joules == pytest.approx(8 * 1000 + 2 * 1000)  # each node's processor counts once
    assert (job.seconds, job.epochs, sum(job.outcomes.values())) == (20.0, 2, 1)
    assert job.gpu_hours == pytest.approx(8 * 20 / 3600)
    one = subject_of([next(read_runs(tmp_path))], "")
    assert "run 0000000000000000 is one of 8 processes of a job" in one.notes
    assert any("declare the directory" in advice for advice in one.advice)


@pytest.mark.parametrize(
    ("relative_error", "quality"), [(0.09, "high"), (0.2, "medium"), (0.4, "low"), (0.6, None)]
)
def test_the_quality_of_boamps_is_that_of_the_error(
    tmp_path: Path, relative_error: float, quality: str | None
) -> None:
    made = Made("e" * 16, relative_error=relative_error)
    path = tmp_path / "run.jsonl"
    path.write_text("\n".join(map(json.dumps, made.events())) + "\n", encoding="utf-8")
    report = json.loads(declared("boamps", subject_of([read_run(path)], ""), {}).text)
    assert report.get("quality") == quality


def test_embodied_and_market_based_figures_follow_from_the_answers(
    subjects: dict[str, Subject],
) -> None:
    job = subjects["job"]
    values = declared("sci", job, {"lifetime_years": 4}).values
    assert values["M/value"] == pytest.approx(1000 * 164 * job.gpu_hours / (4 * 8766), rel=1e-5)
    assert "NVIDIA 2025" in values["M/origin"]
    other = declared("sci", job, {"lifetime_years": 4, "embodied_kg_per_accelerator": 82}).values
    assert other["M/value"] == pytest.approx(values["M/value"] / 2, rel=1e-5)
    assert "M/value" not in declared("sci", job, {}).values
    market = declared("ghg", job, {"market_based_gco2eq_per_kwh": 0}).values
    assert market["Market-based method/Emissions"] == "0 g CO2eq"


def test_a_run_without_energy_declares_none(tmp_path: Path) -> None:
    events = list(Made("f" * 16).events())
    for event in events:
        event.pop("energy", None)
        event.pop("footprint", None)
    path = tmp_path / "run.jsonl"
    path.write_text("\n".join(map(json.dumps, events)) + "\n", encoding="utf-8")
    subject = subject_of([read_run(path)], "")
    for name in FORMS:
        declaration = declared(name, subject, ANSWERS)
        numbers = [v for v in declaration.values.values() if isinstance(v, float)]
        assert all(math.isfinite(one) for one in numbers)
        assert "nan" not in declaration.text.lower().split()
    assert "co2_eq_emissions/emissions" in declared("hf", subject, ANSWERS).missing


# ---- answers -------------------------------------------------------------------------------


def test_a_template_reads_back_as_the_answers(tmp_path: Path) -> None:
    known = {key: one for name in FORMS for key, (one, _) in form_named(name).questions.items()}
    file = tmp_path / "answers.toml"
    for name in FORMS:
        questions = form_named(name).questions
        file.write_text(template(name, questions, {}), encoding="utf-8")
        assert read_answers(file, known) == {}
        file.write_text(
            "\n".join(
                re.sub(r"^# (\w+ = )", r"\1", line)
                for line in template(name, questions, {}).splitlines()
            ),
            encoding="utf-8",
        )
        found = read_answers(file, known)
        assert found == {key: one.example for key, (one, _) in questions.items()}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('modelname = "x"', "no form asks for 'modelname'; did you mean model_name?"),
        ("model_name = 7", "model_name must be a text"),
        ('model_name = " "', "model_name must be a text"),
        ('parameters = "many"', "parameters must be a number"),
        ("parameters = -1", "parameters must be a number"),
        ("parameters = nan", "parameters must be a number"),
        ("data_quantity = inf", "data_quantity must be a number"),
        (f"embodied_gco2eq = 1{'0' * 400}", "embodied_gco2eq must be a number of at least 0"),
        ("functional_units = 0", "functional_units must be a number above 0"),
        ("lifetime_years = 0.0", "lifetime_years must be a number above 0"),
        (f"x = {'[' * 20_000}", "lists are too deep"),
        ('stage = "play"', "stage must be one of pretraining"),
        ("model_name", "not valid TOML"),
    ],
)
def test_a_wrong_answer_is_named(tmp_path: Path, line: str, said: str) -> None:
    known = {key: one for name in FORMS for key, (one, _) in form_named(name).questions.items()}
    file = tmp_path / "answers.toml"
    file.write_text(line, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(said)):
        read_answers(file, known)


def test_answers_in_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is not a file"):
        read_answers(tmp_path / "pipe", {})


# ---- the command ---------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = str(Training(epochs=2, moments=4).write(tmp_path / "run.jsonl"))
    assert main(["declare"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(FORMS)
    assert main(["declare", record, "--form", "cyclondx"]) == 2
    assert "did you mean cyclonedx?" in capsys.readouterr().err
    answers, out = tmp_path / "answers.toml", tmp_path / "bom.json"
    assert main(["declare", "--form", "cyclonedx", "--write-answers", str(answers)]) == 0
    assert main(["declare", "--form", "cyclonedx", "--write-answers", str(answers)]) == 2
    answers.write_text('model_name = "tiny"\nstage = "fine-tuning"\n', encoding="utf-8")
    given = ["declare", record, "--form", "cyclonedx", "--answers", str(answers)]
    assert main([*given, "-o", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "still to declare: energy_supplier" in printed.err
    (energy,) = json.loads(out.read_text())["components"][0]["modelCard"]["considerations"][
        "environmentalConsiderations"
    ]["energyConsumptions"]
    assert energy["activity"] == "fine-tuning"
    assert main([*given, "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["missing"] == []
    assert whole["origins"]["components/0/name"] == "asked"
    assert main(["declare", record]) == 2
    assert main(["declare", record, "--form", "hf", "--location", "SE"]) == 0
    assert 'geographical_location: "Sweden"' in capsys.readouterr().out


def test_a_directory_is_declared_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subjects: dict[str, Subject]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for made in PROJECT:
        (folder / f"{made.run_id}.jsonl").write_text(
            "\n".join(map(json.dumps, made.events())) + "\n", encoding="utf-8"
        )
    assert main(["declare", str(folder), "--form", "boamps"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["measures"][0]["powerConsumption"] == pytest.approx(PROJECT_JOULES / 3.6e6, 1e-5)


def test_a_project_is_declared_by_its_name_and_by_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "records"  # the default directory of tests
    folder.mkdir()
    stages = ("pretraining", "pretraining", "development", "")
    for number, stage in enumerate(stages):
        made = Made(f"{number:016x}", (1000.0,), began_s=100 * number, boot_id="b")
        events = made.events()
        events[0] |= {"project": "other" if stage == "" else "tiny-lm", "stage": stage}
        for event in events:
            if event["event"] in ("epoch", "run_finished"):
                event["work"] = {"tokens": 5000, "flops": 3e9}
        (folder / f"{number}.jsonl").write_text("\n".join(map(json.dumps, events)) + "\n")
    assert main(["declare", "tiny-lm", "--form", "sci", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["values"]["E/value"] == pytest.approx(3000 * PUE / 3.6e6, rel=1e-5)
    assert whole["values"]["R/value"] == 15000
    assert whole["values"]["R/unit"] == "token"
    assert whole["origins"]["R/value"] == "carried"
    assert "stage" in whole["still_to_declare"]  # there are two, and the form asks for one
    assert main(["declare", "tiny-lm", "--form", "ai-act"]) == 0
    act = capsys.readouterr().out
    assert "Stages that are included: pretraining, development" in act
    assert "Floating-point operations: 9e+09" in act
    assert main(["declare", "tiny-lm", "--form", "hf", "--stage", "pretraining"]) == 0
    card = capsys.readouterr().out
    assert 'training_type: "pre-training"' in card
    assert f"emissions: {2000 * PUE / 3.6e6 * GRAMS:.6g}" in card
    assert main(["declare", "tiny-lm", "--form", "neurips", "--stage", "evaluation"]) == 2
    assert "there is pretraining, development" in capsys.readouterr().err
    assert main(["declare", "tiny-ln", "--form", "neurips"]) == 2
    assert "or the name of a project" in capsys.readouterr().err


def test_a_project_has_the_energy_that_the_ledger_gives_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The second run began within the first, on the same GPU, for another project.
    for run_id, began_s, name in (("a", 0.0, "one"), ("b", 10.0, "two"), ("c", 40.0, "two")):
        events = Made(run_id * 16, (1000.0, 1000.0), began_s=began_s, boot_id="b").events()
        events[0] |= {"project": name, "stage": "pretraining"}
        (tmp_path / f"{run_id}.jsonl").write_text("\n".join(map(json.dumps, events)) + "\n")
    ledger = make_ledger(read_runs(tmp_path))
    for name, joules in (("one", 2000), ("two", 1000 + 2000)):
        given = ["declare", name, "--records", str(tmp_path), "--form", "boamps"]
        assert main(given) == 0
        printed = capsys.readouterr()
        (measure,) = json.loads(printed.out)["measures"]
        assert measure["powerConsumption"] == pytest.approx(joules / 3.6e6, rel=1e-5)
        cost = ledger.of_project(name).whole.cost
        assert cost.joules == pytest.approx(joules)
        assert ("25 % of the energy" in printed.err) == (name == "two")


def test_work_that_one_training_did_not_count_is_asked_for(tmp_path: Path) -> None:
    for name, work in (("a", {"tokens": 10}), ("b", {})):
        events = Made(name * 16, began_s=100 * len(work), boot_id="b").events()
        events[-1]["work"] = work
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, events)) + "\n")
    subject = subject_of(list(read_runs(tmp_path)), "x")
    assert math.isnan(subject.work.tokens)
    assert "functional_units" in declared("sci", subject, {}).still_to_declare
    # A unit without its number takes none from the record.
    own = declared("sci", subject, {"functional_unit": "image"})
    assert "R/value" not in own.values


# ---- the shape of a form -------------------------------------------------------------------


def test_the_tables_of_the_documentation_are_those_of_the_forms() -> None:
    page = (ROOT / "docs" / "forms.md").read_text(encoding="utf-8")
    assert "\n".join(tables()).strip() in page


def test_a_form_is_a_list_of_fields() -> None:
    for name in FORMS:
        for one in form_named(name).fields:
            assert one.origin in ORIGINS
            assert (one.value is None) <= (one.origin in ("asked", "not carried")), one.path
            if one.origin == "not carried":
                assert one.what, f"{name}: {one.path} does not say why"
                assert one.question is None


def test_a_new_form_needs_one_value_of_its_own(subjects: dict[str, Subject]) -> None:
    form = Form("A", "B", (Field("a/0/b", "carried", lambda s, _: s.name),), render=as_json)
    filled = form.fill(subjects["job"], {})
    assert isinstance(filled, Filled)
    assert json.loads(form.render(form, filled)) == {"a": [{"b": "train_llm.py"}]}
    unknown: list[Any] = [None, "", math.nan]
    known: list[Any] = [0.0, [], "x"]
    assert not any(map(is_known, unknown))
    assert all(map(is_known, known))
