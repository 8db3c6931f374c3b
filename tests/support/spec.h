/* Reading of the line-oriented files that drive the C doubles.
 *
 * A line is a list of `key=value` words parted by blanks; `#` starts a comment
 * line; a line may open with a bare word that says what it describes. Numbers are
 * read in the "C" locale whatever the host program has set.
 */
#ifndef TESTS_SUPPORT_SPEC_H
#define TESTS_SUPPORT_SPEC_H

#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPEC_BLANKS " \t\r\n"

enum spec_type { SPEC_DOUBLE, SPEC_INT, SPEC_FLAG, SPEC_I64, SPEC_U64 };

/* Where one key goes. I64 values are multiplied by `scale`, e.g. ms to ns. */
struct spec_key {
    const char* key;
    enum spec_type type;
    size_t offset;
    double scale;
};

static inline int spec_flag(const char* value, int* flag) {
    *flag = strcmp(value, "yes") == 0;
    return *flag || strcmp(value, "no") == 0 ? 0 : -1;
}

static inline int spec_store(const struct spec_key* key, void* target, const char* value) {
    void* place = (char*)target + key->offset;
    char* end = NULL;
    switch (key->type) {
    case SPEC_FLAG: return spec_flag(value, (int*)place);
    case SPEC_U64: /* by way of long long: a double would lose the low digits */
        *(uint64_t*)place = strtoull(value, &end, 10);
        break;
    case SPEC_INT: *(int*)place = (int)strtol(value, &end, 10); break;
    case SPEC_I64: *(int64_t*)place = llround(strtod(value, &end) * key->scale); break;
    default: *(double*)place = strtod(value, &end); break;
    }
    return end != value && *end == '\0' ? 0 : -1;
}

/* 0 stored, -1 bad value, 1 not a key of this table. */
static inline int spec_set(const struct spec_key* keys, void* target, const char* key,
                           const char* value) {
    for (; keys->key != NULL; ++keys)
        if (strcmp(keys->key, key) == 0) return spec_store(keys, target, value);
    return 1;
}

/* Takes the next word off *line; splits it at the first '='. NULL at the end. */
static inline char* spec_next(char** line, char** value) {
    char* word = strtok_r(NULL, SPEC_BLANKS, line);
    if (word == NULL) return NULL;
    *value = strchr(word, '=');
    if (*value != NULL) *(*value)++ = '\0';
    return word;
}

/* Calls `take` for each line that is neither empty nor a comment. */
static inline int spec_read(const char* path, int (*take)(char* line)) {
    enum { LONGEST = 8192 };
    char line[LONGEST], copy[LONGEST];
    int status = 0;
    FILE* file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before = uselocale(plain);
    while (status == 0 && fgets(line, sizeof line, file) != NULL) {
        memcpy(copy, line, sizeof copy);
        size_t blank = strspn(line, SPEC_BLANKS);
        if (line[blank] == '\0' || line[blank] == '#') continue;
        status = take(line + blank);
        if (status != 0) fprintf(stderr, "%s: cannot read this line: %s", path, copy);
    }
    uselocale(before);
    freelocale(plain);
    fclose(file);
    return status;
}

#endif
