// The tables of processors: the power of a model, and of a thread of a micro-architecture.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "sources/model/cpuinfo.hpp"

namespace carbontracker::model {

/// A row of cpu_tdp.csv.
struct Model {
    std::string key;
    double tdp_watts;
    double max_watts; ///< turbo power or upper configurable TDP; 0: unknown
    int cores;        ///< 0: unknown
    std::string evidence;
};

std::optional<Model> find_model(const std::filesystem::path& data_dir,
                                const std::vector<std::string>& keys);

/// A row of cpu_cores.csv.
struct Core {
    std::string name;
    int threads_per_core;
    double idle_watts; ///< of one hardware thread
    double full_watts;
    std::string evidence;
    bool is_kind; ///< false: a brand, or any core of a maker
};

class CoreTable {
public:
    explicit CoreTable(const std::filesystem::path& data_dir);

    /// The micro-architecture that matches the name of a processor, or its codes.
    [[nodiscard]] std::optional<Core> find(const std::string& key, const Cores& codes,
                                           const std::string& seller) const;

private:
    struct Row {
        std::string vendor; ///< "name" and "brand": matched by words alone
        int family;
        int first_model;
        int last_model;
        int first_stepping;
        std::string seller;
        std::vector<std::string> words;
        Core core;
    };

    /// `vendor`: of the rows; empty: of those with codes. `is_number`: by words with a '?', which
    /// are those of model numbers.
    [[nodiscard]] const Row* by_words(const std::string& key, const std::string& vendor,
                                      bool is_number) const;
    [[nodiscard]] const Row* by_codes(const Cores& codes, const std::string& seller) const;

    std::vector<Row> rows_;
};

} // namespace carbontracker::model
