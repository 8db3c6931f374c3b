/* What the sensors of a pretended board show at a time, worked out from closed forms.
 *
 * All times are nanoseconds since the epoch of the spec. Nothing here keeps state, so whoever
 * knows the spec knows every reading.
 */
#ifndef TESTS_SUPPORT_FAKE_NVML_SENSOR_H
#define TESTS_SUPPORT_FAKE_NVML_SENSOR_H

#include "fake_nvml_device.h"

/* The same number in [0, 1) for the same k and salt: splitmix64. */
static inline double sensor_chance(int64_t k, uint64_t salt) {
    uint64_t x = ((uint64_t)k + salt) * 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return (double)((x ^ (x >> 31)) >> 11) / 9007199254740992.0;
}

/* When refresh number k takes place: the jitter of one does not move the next. */
static inline int64_t sensor_refresh_ns(const struct device* d, const struct refresh* r,
                                        int64_t k) {
    double off = 2.0 * sensor_chance(k, 1) - 1.0;
    return r->phase_ns + k * r->period_ns + (int64_t)(off * (double)d->jitter_ns);
}

/* The number of the last refresh that took place by then. */
static inline int64_t sensor_refresh_number(const struct device* d, const struct refresh* r,
                                            int64_t now_ns) {
    int64_t k = (now_ns - r->phase_ns) / r->period_ns + 1;
    while (sensor_refresh_ns(d, r, k) > now_ns) --k;
    while (sensor_chance(k, 2) < d->missed && k > 0) --k;
    return k;
}

/* When the value now on show was taken; 0 before the first refresh. */
static inline int64_t sensor_published_ns(const struct device* d, const struct refresh* r,
                                          int64_t now_ns) {
    int64_t at = now_ns;
    if (r->period_ns > 0) at = sensor_refresh_ns(d, r, sensor_refresh_number(d, r, now_ns));
    return at < 0 ? 0 : at;
}

/* ---- power --------------------------------------------------------------- */

/* Mean over the `window_ns` before t, cut at t = 0; 0 = no mean. */
static inline double sensor_box_watts(const struct wave* w, double t, int64_t window_ns) {
    double from = fmax(0.0, t - (double)window_ns / 1e9);
    if (from >= t) return wave_watts(w, t);
    return (wave_joules(w, t) - wave_joules(w, from)) / (t - from);
}

/* The energy since t = 0, negative before: there the power is that at 0. */
static inline double sensor_joules_since_start(const struct wave* w, double t) {
    return t < 0.0 ? wave_watts(w, 0.0) * t : wave_joules(w, t);
}

/* First-order low-pass: the exact mean of each slice of the past by the slice's weight. Slices of
 * tau / 64 misplace a jump within one by less than 1e-4 of its height. */
static inline double sensor_low_pass_watts(const struct wave* w, double t, double tau) {
    enum { SLICES_PER_TAU = 64, SLICES = 16 * SLICES_PER_TAU };
    double width = tau / SLICES_PER_TAU, watts = 0.0, weight = 1.0;
    double later = sensor_joules_since_start(w, t);
    for (int i = 1; i <= SLICES; ++i) {
        double earlier = sensor_joules_since_start(w, t - i * width);
        double rest = exp(-(double)i / SLICES_PER_TAU);
        watts += (weight - rest) * (later - earlier) / width;
        weight = rest;
        later = earlier;
    }
    return watts;
}

/* What the power sensor makes of the truth at t, before any fault. */
static inline double sensor_watts(const struct device* d, const struct wave* w, double t,
                                  int64_t window_ns) {
    double watts = d->log_ns > 0 ? sensor_low_pass_watts(w, t, (double)d->log_ns / 1e9)
                                 : sensor_box_watts(w, t, window_ns);
    return fmax(0.0, d->power_gain * watts + d->power_offset_w);
}

static inline uint64_t sensor_power_mw(const struct device* d, const struct wave* w, int64_t now_ns,
                                       int64_t window_ns) {
    const struct span* bogus = device_span(d, SPAN_BOGUS, (double)now_ns / 1e9);
    if (bogus != NULL) return (uint64_t)(bogus->value * 1000.0);
    double t = (double)sensor_published_ns(d, &d->reading, now_ns) / 1e9;
    return (uint64_t)(sensor_watts(d, w, t, window_ns) * 1000.0);
}

/* ---- the counter --------------------------------------------------------- */

static inline const struct wave* counter_wave(const struct device* d) {
    return d->module_counter ? &d->module : &d->power;
}

/* The sum of what the power sensor saw, each reading taken for a whole period. Its cost grows
 * with the age of the epoch. */
static inline double counter_duty_joules(const struct device* d, double t) {
    double joules = 0.0, period = (double)d->counter.period_ns / 1e9;
    double phase = (double)d->counter.phase_ns / 1e9;
    for (int64_t k = 0; phase + (double)k * period <= t + 1e-12; ++k)
        joules +=
            period * sensor_watts(d, counter_wave(d), phase + (double)k * period, d->instant_ns);
    return joules;
}

static inline double counter_joules(const struct device* d, double t) {
    if (d->counter_duty && d->counter.period_ns > 0) return counter_duty_joules(d, t);
    return wave_joules(counter_wave(d), t);
}

static inline uint64_t sensor_counter_mj(const struct device* d, int64_t now_ns) {
    double t = (double)sensor_published_ns(d, &d->counter, now_ns) / 1e9;
    t = fmin(t, d->stuck_at_s);
    if (t >= d->reset_at_s) {
        double since = counter_joules(d, t) - counter_joules(d, d->reset_at_s);
        return (uint64_t)(d->gain * 1000.0 * since);
    }
    return (uint64_t)d->start_mj + (uint64_t)(d->gain * 1000.0 * counter_joules(d, t));
}

/* ---- kept samples -------------------------------------------------------- */

static inline uint64_t sensor_sample_mw(const struct device* d, int64_t t_ns) {
    return (uint64_t)(sensor_watts(d, &d->power, (double)t_ns / 1e9, d->instant_ns) * 1000.0);
}

#endif
