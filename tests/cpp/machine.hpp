// A pretended machine: a temporary folder that holds sys/ and proc/.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "platform/host.hpp"

/// A folder that a Host takes for the machine, removed with the object.
class Machine {
public:
    Machine() {
        std::string name = std::filesystem::temp_directory_path() / "carbontracker-XXXXXX";
        if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
        root_ = name;
        write("data/cpu_tdp.csv", "match_key,tdp_watts,cores,evidence\n"
                                  "inteltestiumone,100,4,vendor\n"
                                  "testiumxeon2,200,8,vendor\n");
    }
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
    ~Machine() {
        std::error_code ignored;
        std::filesystem::remove_all(root_, ignored);
    }

    void write(const std::filesystem::path& path, const std::string& text) const {
        std::filesystem::create_directories((root_ / path).parent_path());
        std::ofstream(root_ / path) << text;
    }

    /// Changes a file without it ever being empty, as a sensor's file never is.
    void overwrite(const std::filesystem::path& path, const std::string& text) const {
        std::fstream file(root_ / path, std::ios::in | std::ios::out);
        file.write(text.data(), static_cast<std::streamsize>(text.size()));
    }

    void directory(const std::filesystem::path& path) const {
        std::filesystem::create_directories(root_ / path);
    }

    /// A RAPL zone where the kernel has it, with its link in the class folder: each child appears
    /// inside its parent and beside it.
    void zone(const std::filesystem::path& path, const std::string& name,
              const std::string& range = "262143328850") const {
        const std::filesystem::path device = "sys/devices/virtual/powercap" / path;
        write(device / "name", name + "\n");
        write(device / "energy_uj", "001000000000\n");
        if (!range.empty()) write(device / "max_energy_range_uj", range + "\n");
        directory("sys/class/powercap");
        std::filesystem::create_directory_symlink(root_ / device,
                                                  root_ / "sys/class/powercap" / path.filename());
    }

    /// One whose counter cannot be read. Root reads whatever the permissions say, but no folder.
    void unreadable(const std::filesystem::path& path) const {
        const std::filesystem::path energy =
            root_ / "sys/devices/virtual/powercap" / path / "energy_uj";
        std::filesystem::remove(energy);
        std::filesystem::create_directory(energy);
    }

    [[nodiscard]] carbontracker::Host
    host(std::vector<carbontracker::SimulatedDevice> simulated = {}) const {
        return {root_, "libcarbontracker-no-such.so", root_ / "data", {}, std::move(simulated)};
    }

private:
    std::filesystem::path root_;
};
