"""Writes the corpus of old logs: every documented variant of versions 1.1 to 2.4.7.

    python tests/data/oldlogs/make.py

The formats are those described in ``docs/old-logs.md``, not copies of anybody's files. Each case
states what is in it as numbers; the texts and ``expected.json`` are both made from those, so that
what a parser must find is known without a parser.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CAR = "km travelled by car"


@dataclass(frozen=True)
class Case:
    """One pair of log files."""

    name: str
    version: str
    devices: dict[str, list[str]]
    durations: list[str]
    """As written, ``H:MM:SS.ss``."""
    watts: dict[str, list[str]]
    """As written, one text an epoch."""
    values: dict[str, list[list[float]]]
    """What those texts mean."""
    actual: tuple[Any, ...] | None = None
    """Epochs as written (None: no count), seconds, kWh, grams, km (None: not interpretable)."""
    pred: tuple[Any, ...] | None = None
    pue: str = "1.58"
    intensity: str = ""
    stopped: str = ""
    true_epochs: int | None = None
    crlf: bool = False
    stem: str = ""
    more: dict[str, float] = field(default_factory=dict)
    """Further equivalents."""
    stamp: str = "2023-05-04 10:11:12"
    silent: bool = False
    """``verbose=0``, which up to 1.1.7 left the output log empty."""
    later: str = ""
    """Name of the next case of the same process, whose tracker writes into these files, too."""
    notes: str = ""


def seconds(text: str) -> float:
    hours, minutes, rest = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def timestring(value: float) -> str:
    total = round(value)
    return f"{total // 3600}:{total // 60 % 60:02d}:{total % 60:02d}"


def standard(case: Case) -> str:
    stamp = f"{case.stamp} - "
    unit = "gCO2eq" if case.version >= "2.4" else "gCO2"
    lines = []
    if case.version:
        lines.append(f"carbontracker version {case.version}")
    if case.pue:
        lines.append(
            "Only predicted and actual consumptions are multiplied by a PUE coefficient of "
            f"{case.pue} (Daniel Bizo, 2023, Uptime Institute Global Data Center Survey)."
        )
    found = " ".join(
        f"{name.upper()} with device(s) {', '.join(names)}." for name, names in case.devices.items()
    )
    lines.append(f"The following components were found: {found}")
    lines.append("Monitoring thread started.")
    for epoch, duration in enumerate(case.durations):
        lines += [f"Epoch {epoch + 1}:", f"Duration: {duration}"]
        for name, texts in case.watts.items():
            lines.append(f"Average power usage (W) for {name}: {texts[epoch]}")
    if case.intensity:
        lines.append(
            f"Carbon intensities ({unit}/kWh) fetched every 900 s at detected location: "
            f"Unknown: [{case.intensity}]"
        )
    if case.stopped:
        lines.append(case.stopped)
    if case.intensity and case.actual:
        mean = case.intensity.removeprefix("np.float64(").removesuffix(")")
        tail = "" if unit == "gCO2eq" else "at detected location: UNDETECTED."
        lines.append(
            f"Average carbon intensity during training was {float(mean):.2f} {unit}/kWh. {tail}"
        )
    if case.actual:
        lines.append("Monitoring thread ended.")
    return "".join(f"{stamp}{line}\n" for line in lines)


def block(heading: str, figures: tuple[Any, ...], more: dict[str, float]) -> str:
    _, time_s, kwh, grams, km = figures
    # Versions before decimal_precision wrote six decimals.
    text = f"\n{heading}\n\tTime:\t{timestring(time_s)}\n\tEnergy:\t{kwh} kWh\n\tCO2eq:\t{grams} g"
    if km is not None:
        text += f"\n\tThis is equivalent to:\n\t{km} {CAR}"
        text += "".join(f"\n\t{value} {words}" for words, value in more.items())
    return text


def output(case: Case) -> str:
    stamp = f"{case.stamp} - CarbonTracker: "
    lines = ["The following components were found."]
    if case.pred:
        lines.append(block(f"Predicted consumption for {case.pred[0]} epoch(s):", case.pred, {}))
    if case.actual:
        count = "" if case.actual[0] is None else f" for {case.actual[0]} epoch(s)"
        lines.append(block(f"Actual consumption{count}:", case.actual, case.more))
        lines.append("Finished monitoring.")
    return "".join(f"{stamp}{line}\n" for line in lines)


def consumption(case: Case, figures: tuple[Any, ...] | None, more: dict[str, float]) -> Any:
    if figures is None:
        return None
    epochs, time_s, kwh, grams, km = figures
    number = [None if text in ("nan", "not measured") else float(text) for text in (kwh, grams)]
    if figures is case.actual:
        epochs = case.true_epochs if case.true_epochs is not None else (epochs or 1)
    return {
        "epochs": epochs,
        "duration (s)": float(round(time_s)),
        "energy (kWh)": number[0],
        "co2eq (g)": number[1],
        "equivalents": None if km is None else {CAR: float(km), **more},
    }


def expected(case: Case) -> dict[str, Any]:
    durations = [seconds(text) for text in case.durations]
    components = {}
    for name, devices in case.devices.items():
        watts = case.values.get(name) or None
        components[name] = {
            "devices": devices,
            "watts": watts,
            "joules": watts
            and [
                [one * duration for one in row]
                for row, duration in zip(watts, durations, strict=True)
            ],
            "durations": durations or None,
        }
    return {
        "components": components,
        "early_stop": "interrupted" in case.stopped,
        "actual": None if case.silent else consumption(case, case.actual, case.more),
        "pred": None if case.silent else consumption(case, case.pred, {}),
    }


def scalar(name: str, *values: float) -> tuple[dict[str, list[str]], dict[str, list[list[float]]]]:
    return {name: [str(v) for v in values]}, {name: [[v] for v in values]}


RTX = {"gpu": ["TITAN RTX"], "cpu": ["cpu:0", "cpu:1"]}
FOUR = [f"Tesla V100-SXM2-32GB {i}" for i in range(4)]
A100 = {"gpu": ["NVIDIA A100"], "cpu": ["Intel Xeon Gold 6226R"]}
ONE = {"gpu": ["240.0"], "cpu": ["120.0"]}
ONE_VALUE = {"gpu": [[240.0]], "cpu": [[120.0]]}
THREE = {"gpu": ["240.0", "241.5", "239.25"], "cpu": ["120.0", "120.0", "120.0"]}
THREE_VALUES = {"gpu": [[240.0], [241.5], [239.25]], "cpu": [[120.0], [120.0], [120.0]]}
TIMES = ["0:00:02.50", "0:00:02.51", "0:00:02.49"]
SIXTEEN = [100.5 + i for i in range(16)]
WRAPPED = (
    "[100.5 101.5 102.5 103.5 104.5 105.5 106.5 107.5 108.5 109.5 110.5 111.5\n"
    " 112.5 113.5 114.5 115.5]"
)
PAIR = "[ 99.5 100.5]"
STOP = "Training was interrupted before all {} epochs were monitored."

CASES = [
    Case("v1.1.0-first", "", {"gpu": ["GeForce GTX 1080"]}, ["0:01:00.00"],
         {"gpu": ["[180.25]"]}, {"gpu": [[180.25]]},
         (1, 60, "0.004747", "1.396515", "0.011599"), pue="", stem="2020-05-21T0900Z",
         notes="no version, no PUE line, no pid in the name"),
    Case("v1.1.2-paper", "1.1.2", RTX, ["0:01:09.54", "0:01:09.00"],
         {"gpu": ["[252.5]", "[253.]"], "cpu": ["[60.5 61.5]", "[60.  62.]"]},
         {"gpu": [[252.5], [253.0]], "cpu": [[60.5, 61.5], [60.0, 62.0]]},
         (2, 6955, "1.334319", "77.724065", "0.645549"),
         (2, 6894, "1.159974", "62.744032", "0.52113"),
         notes="two packages: a vector each epoch"),
    Case("v1.1.3-predicted-only", "1.1.3", {"gpu": ["TITAN RTX"]}, ["0:02:00.00"],
         {"gpu": ["[200.]"]}, {"gpu": [[200.0]]},
         None, (100, 12000, "1.113333", "327.556667", "2.720570"), pue="1.67",
         notes="killed after the prediction: its one epoch is what is known"),
    Case("v1.1.5-two-gpus", "1.1.5", {"gpu": ["GeForce RTX 2080 Ti"] * 2}, ["1:00:00.00"],
         {"gpu": [PAIR]}, {"gpu": [[99.5, 100.5]]},
         (1, 3600, "0.318000", "93.558780", "0.777066"), pue="1.59"),
    Case("v1.1.7-prefix", "1.1.7", {"gpu": FOUR[:1]}, ["0:00:10.00"],
         {"gpu": ["[101.]"]}, {"gpu": [[101.0]]}, (1, 10, "0.000435", "0.206563", "0.001922"),
         pue="1.55", stem="my_exp.v2_4711.12_2022-01-02T030405Z"),
    Case("v1.2.0-early", "1.2.0", {"gpu": FOUR[:1]}, ["0:00:10.00", "0:00:11.00"],
         {"gpu": ["[100.]", "[110.]"]}, {"gpu": [[100.0], [110.0]]},
         (1, 21, "0.000951", "0.451827", "0.004203"),
         (50, 500, "0.021528", "10.225694", "0.095123"),
         pue="1.55", stopped=STOP.format(50), true_epochs=2,
         notes="stop() took an epoch away and counted its energy"),
    Case("v1.2.2-cpu-only", "1.2.2", {"cpu": ["cpu:0"]}, ["0:00:05.00"],
         {"cpu": ["[35.125]"]}, {"cpu": [[35.125]]}, (1, 5, "0.000076", "0.035922", "0.000334"),
         pue="1.55"),
    Case("v1.2.5-four-gpus", "1.2.5", {"gpu": FOUR}, ["0:00:02.00", "0:00:02.00"],
         {"gpu": ["[100. 200. 300. 400.]"] * 2}, {"gpu": [[100.0, 200.0, 300.0, 400.0]] * 2},
         (2, 4, "0.001722222222", "0.818055555556", "0.007609819121"), pue="1.55"),
    Case("v1.2.5-sixteen-gpus", "1.2.5", {"gpu": ["A100"] * 16}, ["0:10:00.00"],
         {"gpu": [WRAPPED]}, {"gpu": [SIXTEEN]}, (1, 600, "0.446400", "212.04", "1.972465"),
         pue="1.55", notes="numpy broke the line"),
    Case("v1.2.5-exponents", "1.2.5", {"gpu": FOUR[:3]}, ["0:00:03.00"],
         {"gpu": ["[1.0e-05 2.5e+02 3.e+00]"]}, {"gpu": [[1e-05, 250.0, 3.0]]},
         (1, 3, "0.000327", "0.155", "0.001444"), pue="1.55"),
    Case("v1.2.5-nan-in-vector", "1.2.5", {"gpu": FOUR[:2]}, ["0:00:03.00"],
         {"gpu": ["[nan 250.]"]}, {"gpu": [[0.0, 250.0]]},
         (1, 3, "0.000323", "0.153385", "0.001427"), pue="1.55"),
    Case("v1.2.5-plain", "1.2.5", A100, TIMES, THREE, THREE_VALUES,
         (3, 8, "0.001163", "0.552344", "0.005138"), (3, 8, "0.001162", "0.551", "0.00513"),
         pue="1.55"),
    Case("v2.0.0-four-gpus-averaged", "2.0.0", {"gpu": FOUR}, ["0:00:02.00"],
         {"gpu": ["250.0"]}, {"gpu": [[250.0]]}, (1, 2, "0.000219", "0.105550", "0.000982"),
         notes="the mean of 1000 W over four devices"),
    Case("v2.0.1-cli", "2.0.1", A100, ["0:01:00.00"], ONE, ONE_VALUE,
         (None, 60, "0.009480", "4.55988", "0.042417"), notes="no count without prediction"),
    Case("v2.1.2-dram-averaged", "2.1.2", {"cpu": ["cpu:0", "dram:0"]}, ["0:00:10.00"],
         {"cpu": ["60.0"]}, {"cpu": [[60.0]]}, (1, 10, "0.000263", "0.126663", "0.001178")),
    Case("v2.2.0-intel-names", "2.2.0",
         {"gpu": ["NVIDIA GeForce RTX 3090"], "cpu": ["Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz"]},
         ["0:00:10.00"], ONE, ONE_VALUE, (1, 10, "0.001580", "0.75998", "0.00707"),
         notes="a dot in a name"),
    Case("v2.3.0-names-and-more", "2.3.0",
         {"gpu": ["NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"],
          "cpu": ["AMD EPYC 9654 96-Core Processor v1.0"]},
         ["0:00:10.00"], ONE, ONE_VALUE, (1, 10, "0.001580", "0.75998", "0.00707")),
    Case("v2.3.1-stopped", "2.3.1", A100, TIMES, THREE, THREE_VALUES,
         (2, 8, "0.001185072779", "0.570020006556", "0.005302511689"),
         (3, 8, "0.001185072779", "0.570020006556", "0.005302511689"),
         intensity="481", stopped=STOP.format(-1), true_epochs=3,
         notes="the usual end of 2.3.1: stop() after the last epoch"),
    Case("v2.3.1-not-interpretable", "2.3.1", A100, TIMES, THREE, THREE_VALUES,
         (3, 8, "0.001185072779", "0.570020006556", None),
         (3, 8, "0.001185072779", "0.570020006556", None), intensity="481"),
    Case("v2.3.1-numpy2", "2.3.1", A100, ["0:00:02.50"],
         {"gpu": ["np.float64(240.5)"], "cpu": ["np.float64(1.2e+02)"]},
         {"gpu": [[240.5]], "cpu": [[120.0]]},
         (1, 2, "0.000395", "0.059902", "0.000557"), intensity="np.float64(151.6503)",
         notes="numpy 2 writes the type of a number"),
    Case("v2.3.1-numpy2-vector", "2.3.1", {"gpu": FOUR[:2]}, ["0:00:02.00"],
         {"gpu": ["[np.float64(40.5), np.float64(41.5)]"]}, {"gpu": [[40.5, 41.5]]},
         (1, 2, "0.000072", "0.034632", "0.000322")),
    Case("v2.4.2-none", "2.4.2", A100, TIMES, THREE | {"cpu": ["None", "120.0", "None"]},
         THREE_VALUES | {"cpu": [[0.0], [120.0], [0.0]]},
         (3, 8, "0.000922", "0.41029", "0.003842")),
    Case("v2.4.3-nan", "2.4.3", A100, ["0:00:02.50"], {"gpu": ["240.0"], "cpu": ["nan"]},
         {"gpu": [[240.0]], "cpu": [[0.0]]}, (1, 2, "0.000263", "0.117035", "0.001096")),
    Case("v2.4.4-negative-and-small", "2.4.4", A100, ["0:00:01.00", "0:00:01.00"],
         {"gpu": ["1e-05", "-0.25"], "cpu": ["2.5E+01", ".5"]},
         {"gpu": [[1e-05], [-0.25]], "cpu": [[25.0], [0.5]]},
         (2, 2, "1e-05", "4.45e-03", "4.1e-05"), notes="exponents, and a sign"),
    Case("v2.4.5-nan-grams", "2.4.5", A100, ["0:00:02.50"], ONE, ONE_VALUE,
         (1, 2, "0.000395", "nan", "nan"), (10, 25, "0.003950", "nan", "nan")),
    Case("v2.4.6-crlf", "2.4.6", A100, TIMES, THREE, THREE_VALUES,
         (3, 8, "0.001185", "0.527325", "0.004938"), (3, 8, "0.0012", "0.534", "0.005"),
         intensity="445.0", crlf=True, notes="a file that went over Windows"),
    Case("v2.4.7-plain", "2.4.7", A100, TIMES, THREE, THREE_VALUES,
         (3, 8, "0.001185072779", "0.527357386655", "0.004937803246"),
         (3, 8, "0.001180000000", "0.525100000000", "0.004916666667"), intensity="445.0"),
    Case("v2.4.7-measured-beats-predicted", "2.4.7", A100, [*TIMES, "0:00:02.50"],
         {"gpu": ["24.0", "84.0", "84.0", "84.0"]}, {"gpu": [[24.0], [84.0], [84.0], [84.0]]},
         (4, 10, "0.000092180000", "0.041020100000", "0.000384083333"),
         (4, 10, "0.000026350000", "0.011725750000", "0.000109791667"), intensity="445.0",
         notes="upstream's aggregate took the 3.5 times lower prediction"),
    Case("v2.4.7-monitored-in-part", "2.4.7", A100, ["0:00:02.50"], ONE, ONE_VALUE,
         (1, 2, "0.000395", "0.175775", "0.001646"), (100, 250, "0.0395", "17.5775", "0.164583"),
         intensity="445.0", notes="monitor_epochs=1: the rest is only predicted"),
    Case("v2.4.7-killed", "2.4.7", A100, TIMES[:2], {"gpu": ["240.0"] * 2, "cpu": ["120.0"] * 2},
         {"gpu": [[240.0]] * 2, "cpu": [[120.0]] * 2},
         None, (10, 25, "0.00395", "1.75775", "0.016458333333"), intensity="445.0"),
    Case("v2.4.7-nothing-run", "2.4.7", A100, [], {}, {}, notes="no epoch at all"),
    Case("v2.4.7-long", "2.4.7", A100, ["123:04:05.67"], ONE, ONE_VALUE,
         (1, 443045.67, "69.999999", "31150.0", "291.666667"), intensity="445.0"),
    Case("v2.4.7-ended-by-user", "2.4.7", A100, ["0:00:02.50"], ONE, ONE_VALUE,
         (1, 2, "0.000395", "0.175775", "0.001646"), (100, 250, "0.0395", "17.5775", "0.164583"),
         intensity="445.0", stopped=STOP.format(100), true_epochs=1),
    *(
        Case(f"v{version}-{word}-of-three", version, {"gpu": ["GPU 0"]}, [f"0:00:0{k}.00"],
             {"gpu": ["[100.]"]}, {"gpu": [[100.0]]},
             (1, k, energy, grams, km), (1, k, energy, grams, km), pue="1.55",
             stem=f"{pid}_2022-03-01T10000{3 * k - 3}Z", stamp=f"2022-03-01 10:00:0{3 * k - 3}",
             later=f"v{version}-{after}-of-three" if after else "",
             notes="trackers of one process: each also writes into the files of those before it")
        for version, pid in (("1.1.7", 4711), ("1.2.5", 4712))
        for k, word, after, energy, grams, km in (
            (1, "first", "second", "0.000043", "0.020455", "0.000190"),
            (2, "second", "third", "0.000086", "0.040983", "0.000381"),
            (3, "third", "", "0.000129", "0.061434", "0.000571"),
        )
    ),
    Case("v1.1.7-silent", "1.1.7", {"gpu": FOUR}, ["0:00:01.10"] * 3,
         {"gpu": ["[100. 200. 300. 400.]"] * 3}, {"gpu": [[100.0, 200.0, 300.0, 400.0]] * 3},
         (3, 3, "0.001421", "0.674896", "0.006278"), pue="1.55", intensity="475", silent=True,
         notes="verbose=0: the output log is empty, the standard log has everything"),
    Case("v3.0.0-not-measured", "3.0.0", A100, ["0:00:02.50"],
         {"gpu": ["None"], "cpu": ["None"]}, {"gpu": [[0.0]], "cpu": [[0.0]]},
         (1, 2, "not measured", "not measured", None)),
    Case("v3.0.0-more-equivalents", "3.0.0", A100, ["0:00:02.50"], ONE, ONE_VALUE,
         (1, 2, "0.000395", "0.175775", "0.001646"), more={"smartphone charges": 0.0215}),
]  # fmt: skip


def files(case: Case) -> dict[str, str]:
    stem = case.stem or case.name
    writers = [case]
    while writers[-1].later:
        writers.append(next(one for one in CASES if one.name == writers[-1].later))
    pair = {
        f"{stem}_carbontracker.log": "".join(map(standard, writers)),
        f"{stem}_carbontracker_output.log": "" if case.silent else "".join(map(output, writers)),
    }
    return {name: text.replace("\n", "\r\n") if case.crlf else text for name, text in pair.items()}


def corpus() -> dict[str, str]:
    """Return the text of every file of the corpus by its name."""
    texts = {name: text for case in CASES for name, text in files(case).items()}
    known = {case.stem or case.name: expected(case) | {"notes": case.notes} for case in CASES}
    texts["expected.json"] = json.dumps(known, indent=1) + "\n"
    return texts


if __name__ == "__main__":
    for name, text in corpus().items():
        (HERE / name).write_bytes(text.encode())
