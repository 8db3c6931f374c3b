#include "sources/model/tables.hpp"

#include <algorithm>
#include <charconv>
#include <sstream>
#include <string_view>
#include <tuple>
#include <utility>

#include "platform/host.hpp"
#include "sources/model/names.hpp"
#include "sources/model/text.hpp"

namespace carbontracker::model {
namespace {

std::vector<std::string> split(const std::string& text, char at) {
    std::vector<std::string> fields;
    std::istringstream rest(text);
    for (std::string field; std::getline(rest, field, at);) fields.push_back(field);
    return fields;
}

double to_double(const std::string& text) {
    double value = 0.0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

/// A table without quotes: its columns by name, its rows as text.
class Lines {
public:
    explicit Lines(const std::filesystem::path& path) : text_(read_text(path).value_or("")) {
        if (std::string first; std::getline(text_, first)) columns_ = split(first, ',');
    }

    bool next(std::string& line) { return static_cast<bool>(std::getline(text_, line)); }

    /// The cell of a row that was split; empty where the row or the table lacks it.
    [[nodiscard]] std::string cell(const std::vector<std::string>& cells,
                                   std::string_view column) const {
        const auto place = std::find(columns_.begin(), columns_.end(), column);
        const auto index = static_cast<std::size_t>(place - columns_.begin());
        return index < cells.size() && place != columns_.end() ? cells[index] : std::string();
    }

private:
    std::istringstream text_;
    std::vector<std::string> columns_;
};

} // namespace

std::optional<Model> find_model(const std::filesystem::path& data_dir,
                                const std::vector<std::string>& keys) {
    std::optional<Model> best;
    auto wanted = keys.end(); // keys before this one are still searched
    Lines table(data_dir / "cpu_tdp.csv");
    for (std::string line; wanted != keys.begin() && table.next(line);) {
        const std::string_view key = std::string_view(line).substr(0, line.find(','));
        const auto found = std::find(keys.begin(), wanted, key);
        if (key.empty() || found == wanted) continue;
        const std::vector<std::string> cells = split(line, ',');
        Model model{*found, to_double(table.cell(cells, "tdp_watts")),
                    to_double(table.cell(cells, "max_watts")),
                    std::max(0, to_number(table.cell(cells, "cores"))),
                    table.cell(cells, "evidence")};
        if (model.tdp_watts <= 0.0) continue;
        best = std::move(model);
        wanted = found;
    }
    return best;
}

CoreTable::CoreTable(const std::filesystem::path& data_dir) {
    Lines table(data_dir / "cpu_cores.csv");
    for (std::string line; table.next(line);) {
        const std::vector<std::string> cells = split(line, ',');
        const auto cell = [&](std::string_view column) { return table.cell(cells, column); };
        Row row{cell("vendor"),
                to_number(cell("family")),
                to_number(cell("first_model")),
                to_number(cell("last_model")),
                to_number(cell("first_stepping")),
                cell("seller"),
                split(cell("words"), ';'),
                {cell("name"), to_number(cell("threads_per_core")), to_double(cell("idle_watts")),
                 to_double(cell("full_watts")), cell("evidence"),
                 cell("vendor") != "brand" && cell("code") != "range"}};
        if (row.core.full_watts > 0.0 && row.core.threads_per_core > 0) rows_.push_back(row);
    }
}

// The longest match wins: of "Westmere E56xx (Nehalem-C)" the first.
const CoreTable::Row* CoreTable::by_words(const std::string& key, const std::string& vendor,
                                          bool is_number) const {
    const bool has_codes = vendor.empty();
    const Row* best = nullptr;
    std::size_t most = 0;
    for (const Row& row : rows_) {
        if (has_codes ? row.first_model < 0 : row.vendor != vendor) continue;
        for (const std::string& word : row.words) {
            if (contains(word, "?") != is_number) continue;
            if (const std::size_t length = match_length(key, word); length > most) {
                most = length;
                best = &row;
            }
        }
    }
    return best;
}

// The most specific row wins: with the seller, with fewer models, with the later stepping.
const CoreTable::Row* CoreTable::by_codes(const Cores& codes, const std::string& seller) const {
    const auto narrowness = [](const Row& row) {
        return std::tuple(!row.seller.empty(), row.first_model - row.last_model,
                          row.first_stepping);
    };
    const Row* best = nullptr;
    for (const Row& row : rows_) {
        if (row.vendor != codes.vendor || row.family != codes.family ||
            codes.model < row.first_model || codes.model > row.last_model ||
            codes.stepping < row.first_stepping || !seller.starts_with(row.seller)) {
            continue;
        }
        if (best == nullptr || narrowness(row) > narrowness(*best)) best = &row;
    }
    return best;
}

// A hypervisor's name is better than its codes: "Intel Core Processor (Haswell)" has the codes of a
// desktop and runs on a server. The codes are better than a name that many kinds share, or than the
// digits of a generation with several kinds: an EPYC 9xx5 is Turin or its dense variant.
std::optional<Core> CoreTable::find(const std::string& key, const Cores& codes,
                                    const std::string& seller) const {
    for (const Row* row :
         {by_words(key, "", false), by_codes(codes, seller), by_words(key, "", true),
          by_words(key, "name", false), by_words(key, "brand", false)}) {
        if (row != nullptr) return row->core;
    }
    return std::nullopt;
}

} // namespace carbontracker::model
