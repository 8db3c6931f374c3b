/* A call that hangs until a test lets it go on. */
#ifndef CARBONTRACKER_GATE_H
#define CARBONTRACKER_GATE_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Waits until the file that an environment variable names is there; at once if it names none. That
 * it waits is shown by a file of that name and ".waiting". */
static inline void wait_for_gate(const char* variable) {
    const char* path = getenv(variable);
    char waiting[4096];
    if (path == NULL || access(path, F_OK) == 0) return;
    snprintf(waiting, sizeof waiting, "%s.waiting", path);
    int fd = open(waiting, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0) close(fd);
    while (access(path, F_OK) != 0) usleep(1000);
}

#endif
