// Names of processors as kernels, clouds and hypervisors print them, and the keys of the tables.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace carbontracker::model {

/// The keys under which a processor may be in the table, the most exact first:
/// "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz" -> "intelxeongold6226r".
std::vector<std::string> match_keys(const std::string& name);

/// Letters, digits and '+' in lower case.
std::string squeezed(std::string_view text);

/// How many characters of `pattern` occur somewhere in `key`, where '?' matches any character; 0
/// if the whole pattern does not occur.
std::size_t match_length(std::string_view key, std::string_view pattern);

} // namespace carbontracker::model
