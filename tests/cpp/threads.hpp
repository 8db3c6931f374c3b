// The threads of this process.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

/// How many threads have that name. One may end meanwhile.
inline int threads_named(const std::string& name) {
    int count = 0;
    std::error_code ignored;
    const std::filesystem::directory_iterator tasks("/proc/self/task", ignored);
    for (auto task = begin(tasks); task != end(tasks); task.increment(ignored)) {
        std::string found;
        std::getline(std::ifstream(task->path() / "comm"), found);
        count += found == name ? 1 : 0;
    }
    return count;
}
