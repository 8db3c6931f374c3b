/* Power over time in closed form, and its exact integral since t = 0.
 *
 * A double that plays one of these waves lets a test state the true joules of
 * any interval without measuring anything. waveforms.py holds the same formulas;
 * a test compares the two. Valid as C11 and as C++.
 *
 *   constant:W                        W
 *   square:LOW,HIGH,PERIOD_S,DUTY     HIGH in the first DUTY (0..1) of each period
 *   sine:MEAN,AMPLITUDE,PERIOD_S      starts at MEAN, rising
 *   ramp:START,END,SECONDS            linear, then holds END
 *   step:BEFORE,AFTER,AT_S            AFTER from AT_S on
 *   burst:IDLE,PEAK,PERIOD_S,LENGTH_S PEAK in the first LENGTH_S of each period
 *   random:LOW,HIGH,DWELL_S,SEED      another level every DWELL_S, by chance; the second of each
 *                                     two mirrors the first, so that the integral stays closed
 *
 * Nothing happens before t = 0: the power there is that at 0, the energy 0.
 * wave_parse uses strtod, so the caller sees to it that the locale is "C".
 */
#ifndef TESTS_SUPPORT_WAVEFORM_H
#define TESTS_SUPPORT_WAVEFORM_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WAVE_PI 3.14159265358979323846

enum wave_kind {
    WAVE_CONSTANT,
    WAVE_SQUARE,
    WAVE_SINE,
    WAVE_RAMP,
    WAVE_STEP,
    WAVE_BURST,
    WAVE_RANDOM,
    WAVE_KINDS
};

struct wave {
    enum wave_kind kind;
    double p[4]; /* in the order of the text form */
};

/* Reads exactly `count` comma-separated finite, non-negative numbers. */
static inline int wave_parse_numbers(const char* text, double* numbers, int count) {
    for (int i = 0; i < count; ++i) {
        char* end = NULL;
        numbers[i] = strtod(text, &end);
        if (end == text || !isfinite(numbers[i]) || numbers[i] < 0.0) return -1;
        if (*end != (i + 1 < count ? ',' : '\0')) return -1;
        text = end + 1;
    }
    return 0;
}

static inline int wave_is_sound(const struct wave* w) {
    switch (w->kind) {
    case WAVE_SQUARE: return w->p[2] > 0.0 && w->p[3] <= 1.0;
    case WAVE_SINE: /* a larger amplitude would mean negative power */
        return w->p[2] > 0.0 && w->p[1] <= w->p[0];
    case WAVE_RAMP: return w->p[2] > 0.0;
    case WAVE_RANDOM: /* larger seeds would lose bits in a double */
        return w->p[2] > 0.0 && w->p[3] < 4294967296.0 && floor(w->p[3]) == w->p[3];
    case WAVE_BURST: return w->p[2] > 0.0 && w->p[3] <= w->p[2];
    default: return 1;
    }
}

/* 0 on success, -1 for a text that is no wave. */
static inline int wave_parse(struct wave* w, const char* text) {
    static const struct {
        const char* prefix;
        int count;
    } forms[WAVE_KINDS] = {
        {"constant:", 1}, {"square:", 4}, {"sine:", 3}, {"ramp:", 3}, {"step:", 3}, {"burst:", 4},
        {"random:", 4},
    };
    for (int kind = 0; kind < WAVE_KINDS; ++kind) {
        size_t length = strlen(forms[kind].prefix);
        if (strncmp(text, forms[kind].prefix, length) != 0) continue;
        memset(w, 0, sizeof *w);
        w->kind = (enum wave_kind)kind;
        if (wave_parse_numbers(text + length, w->p, forms[kind].count) != 0) return -1;
        return wave_is_sound(w) ? 0 : -1;
    }
    return -1;
}

/* Seconds of each period spent high; square and burst differ only in this. */
static inline double wave_on_seconds(const struct wave* w) {
    return w->kind == WAVE_SQUARE ? w->p[3] * w->p[2] : w->p[3];
}

/* 0..1, the same for the same pair of steps: the finaliser of splitmix64 (Steele et al. 2014). */
static inline double wave_chance(const struct wave* w, double pair) {
    uint64_t x = ((uint64_t)w->p[3] << 32) ^ (uint64_t)pair;
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return (double)(x >> 11) / 9007199254740992.0;
}

/* The level of the first step of a pair; the second has what is left of LOW + HIGH. */
static inline double wave_level(const struct wave* w, double pair) {
    return w->p[0] + (w->p[1] - w->p[0]) * wave_chance(w, pair);
}

static inline double wave_watts_random(const struct wave* w, double t) {
    double rest = fmod(t, 2.0 * w->p[2]);
    double level = wave_level(w, round((t - rest) / (2.0 * w->p[2])));
    return rest < w->p[2] ? level : w->p[0] + w->p[1] - level;
}

static inline double wave_joules_random(const struct wave* w, double t) {
    double rest = fmod(t, 2.0 * w->p[2]);
    double pairs = round((t - rest) / (2.0 * w->p[2]));
    double level = wave_level(w, pairs);
    double first = rest < w->p[2] ? rest : w->p[2];
    return pairs * (w->p[0] + w->p[1]) * w->p[2] + level * first +
           (w->p[0] + w->p[1] - level) * (rest - first);
}

static inline double wave_watts(const struct wave* w, double t) {
    const double* p = w->p;
    if (t < 0.0) t = 0.0;
    switch (w->kind) {
    case WAVE_SQUARE:
    case WAVE_BURST: /* fmod is exact, so no edge moves as t grows */
        return fmod(t, p[2]) < wave_on_seconds(w) ? p[1] : p[0];
    case WAVE_SINE: return p[0] + p[1] * sin(2.0 * WAVE_PI * fmod(t, p[2]) / p[2]);
    case WAVE_RAMP: return t < p[2] ? p[0] + (p[1] - p[0]) * (t / p[2]) : p[1];
    case WAVE_STEP: return t < p[2] ? p[0] : p[1];
    case WAVE_RANDOM: return wave_watts_random(w, t);
    default: return p[0];
    }
}

static inline double wave_joules_pulsed(const struct wave* w, double t) {
    double period = w->p[2], on = wave_on_seconds(w);
    double rest = fmod(t, period);
    double whole = round((t - rest) / period);
    double high = whole * on + (rest < on ? rest : on);
    return w->p[0] * t + (w->p[1] - w->p[0]) * high;
}

static inline double wave_joules_ramp(const struct wave* w, double t) {
    const double* p = w->p;
    if (t < p[2]) return p[0] * t + (p[1] - p[0]) * (t * (t / p[2])) / 2.0;
    return (p[0] + p[1]) / 2.0 * p[2] + p[1] * (t - p[2]);
}

/* The exact integral of wave_watts from 0 to t. */
static inline double wave_joules(const struct wave* w, double t) {
    const double* p = w->p;
    if (t <= 0.0) return 0.0;
    switch (w->kind) {
    case WAVE_SQUARE:
    case WAVE_BURST: return wave_joules_pulsed(w, t);
    case WAVE_SINE: {
        double angle = 2.0 * WAVE_PI * fmod(t, p[2]) / p[2];
        return p[0] * t + p[1] * p[2] / (2.0 * WAVE_PI) * (1.0 - cos(angle));
    }
    case WAVE_RAMP: return wave_joules_ramp(w, t);
    case WAVE_STEP: return t < p[2] ? p[0] * t : p[0] * p[2] + p[1] * (t - p[2]);
    case WAVE_RANDOM: return wave_joules_random(w, t);
    default: return p[0] * t;
    }
}

#endif
