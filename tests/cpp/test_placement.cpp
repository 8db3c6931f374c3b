// Where sampling threads run beside a program that is pinned.
#include "session/placement.hpp"

#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "check.hpp"
#include "machine.hpp"
#include "session/session.hpp"
#include "waiting.hpp"

using namespace carbontracker;

namespace {

std::string chosen(const char* program, const char* allocation, const char* taken = "",
                   const char* wish = "") {
    const Placement placement =
        choose_cpus({cpus_of(program), cpus_of(allocation), cpus_of(taken), wish});
    return placement.cpus.none() ? "" : describe(placement.cpus);
}

Host host_with(const Machine& machine, const std::string& name = "",
               const std::string& value = "") {
    Host host = machine.host();
    if (!name.empty()) host.environment[name] = value;
    return host;
}

/// The thread of this process with that name; 0 if there is none.
pid_t thread_named(const std::string& name) {
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::string found;
        std::getline(std::ifstream(task.path() / "comm"), found);
        if (found == name) return std::stoi(task.path().filename().string());
    }
    return 0;
}

} // namespace

TEST(a_sampler_takes_what_no_program_is_pinned_to) {
    CHECK(chosen("0", "0-1") == "CPU 1");
    CHECK(chosen("0-3", "0-15") == "CPUs 4-15");
    CHECK(chosen("0", "0-3", "1-2") == "CPU 3"); // another rank is pinned there
    CHECK(chosen("4-7", "0-7,16-23", "0-3") == "CPUs 16-23");
    CHECK(chosen("0", "0-3", "1-3").empty());      // all are taken: where the program is
    CHECK(chosen("0-3", "0-3").empty());           // not pinned
    CHECK(chosen("0-7", "0-3").empty());           // the allocation shrank
    CHECK(chosen("0", "").empty());                // unknown allocation
    CHECK(chosen("", "0-3").empty());              // unknown affinity
    CHECK(chosen("0", "0-3", "", "2") == "CPU 2"); // the user decides
    CHECK(chosen("0-3", "0-3", "2", "2") == "CPU 2");
    CHECK(chosen("0", "0-1", "", "7") == "CPU 1"); // not of this job
    CHECK(chosen("0", "0-1", "", "fast ones") == "CPU 1");
    CHECK(chosen("0", "", "", "5") == "CPU 5");
}

TEST(the_allocation_is_that_of_the_job) {
    const Machine machine;
    machine.write("sys/devices/system/cpu/online", "0-63\n");
    CHECK(describe(allocation_of(host_with(machine))) == "CPUs 0-63");
    // A batch system that says nothing: the other CPUs may be another job's.
    CHECK(allocation_of(host_with(machine, "SLURM_JOB_ID", "7")).none());
    machine.write("proc/self/cgroup", "0::/jobs/one\n");
    machine.write("sys/fs/cgroup/jobs/one/cpuset.cpus.effective", "8-15,40\n");
    CHECK(describe(allocation_of(host_with(machine))) == "CPUs 8-15,40");
    CHECK(describe(allocation_of(host_with(machine, "PBS_JOBID", "7"))) == "CPUs 8-15,40");
    CHECK(describe(allocation_of(host_with(machine, "SLURM_CPU_BIND_LIST", "0x0300,0x0C00"))) ==
          "CPUs 8-11");
    CHECK(allocation_of(host_with(machine, "SLURM_CPU_BIND_LIST", "what")).none());
    // A container sees its group as the root.
    machine.write("proc/self/cgroup", "0::/../elsewhere\n");
    machine.write("sys/fs/cgroup/cpuset.cpus.effective", "3\n");
    CHECK(describe(allocation_of(host_with(machine))) == "CPU 3");
    std::filesystem::remove(machine.host().root / "sys/fs/cgroup/cpuset.cpus.effective");
    machine.write("proc/self/cgroup", "5:cpu:/x\n4:cpuset:/two\n0::/\n");
    machine.write("sys/fs/cgroup/cpuset/two/cpuset.effective_cpus", "1-2\n");
    CHECK(describe(allocation_of(host_with(machine))) == "CPUs 1-2");
}

TEST(lists_of_slurm) {
    CHECK(slurm_cpus("0x1,0x2", "mask_cpu:")->count() == 2);
    CHECK(describe(*slurm_cpus("0xF000000000000000F", "mask_cpu:")) == "CPUs 0-3,64-67");
    CHECK(describe(*slurm_cpus("2,0x11,3", "map_cpu:")) == "CPUs 2-3,17");
    CHECK(!slurm_cpus("0x1", "mask_ldom:"));
    CHECK(!slurm_cpus("0x", "mask_cpu:"));
    CHECK(!slurm_cpus("-4", "map_cpu:"));
    CHECK(slurm_cpus("", "")->none());
}

TEST(a_sampler_leaves_the_cpu_of_a_pinned_program_and_comes_back) {
    const CpuSet before = affinity_of(::getpid());
    if (before.count() < 2) return; // one CPU: there is no other
    std::size_t first = 0;
    while (!before.test(first)) ++first;
    CpuSet one;
    one.set(first);
    const Machine machine;
    machine.write("sys/devices/system/cpu/online", describe(before).substr(5) + "\n");
    machine.zone("intel-rapl:0", "package-0");
    CHECK(set_affinity(::getpid(), one)); // as numactl and torchrun do
    {
        Session session(machine.host(), {});
        session.start();
        const CpuSet others = before & ~one;
        CHECK(eventually([&] { return affinity_of(thread_named("ct-powercap")) == others; }));
        CHECK(eventually([&] { return affinity_of(thread_named("ct-supervise")) == others; }));
        CHECK(session.placement() == describe(others) + ", to which no program is pinned");
        CHECK(affinity_of(::getpid()) == one); // the program stays where it is
        CHECK(set_affinity(::getpid(), before));
        CHECK(eventually([&] { return affinity_of(thread_named("ct-powercap")) == before; }));
        CHECK(set_affinity(::getpid(), one)); // a program may pin itself later
        CHECK(eventually([&] { return affinity_of(thread_named("ct-powercap")) == others; }));
        session.stop();
    }
    CHECK(set_affinity(::getpid(), before));
}

TEST(a_program_with_real_time_priority_makes_ordinary_samplers) {
    const Machine machine;
    machine.zone("intel-rapl:0", "package-0");
    const sched_param priority{1};
    const bool may = ::sched_setscheduler(0, SCHED_FIFO, &priority) == 0;
    Session session(machine.host(), {});
    session.start();
    for (const char* name : {"ct-powercap", "ct-supervise"}) {
        CHECK(eventually([&] { return thread_named(name) != 0; }));
        CHECK(eventually([&] { return ::sched_getscheduler(thread_named(name)) == SCHED_OTHER; }));
    }
    session.stop();
    const sched_param ordinary{0};
    if (may) CHECK(::sched_setscheduler(0, SCHED_OTHER, &ordinary) == 0);
}
