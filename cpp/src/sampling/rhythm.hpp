// When a sensor renews its reading, learned from the readings: a small phase-locked loop.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace carbontracker {

/// When a change happened, as well as can be told.
struct Edge {
    std::int64_t t_ns = 0;
    std::int64_t unsure_ns = 0; ///< either way, 95 %
};

/// Pure arithmetic, without a clock; one per channel.
///
/// Only a change of a reading carries information, and most sensors change in a rhythm. Searching:
/// readings in small steps find the period and the phase. Locked: one reading just before and one
/// just after an edge confirm it; the pair closes in on the edge as long as it keeps holding it and
/// opens up when it does not, so that its width is the sensor's own jitter. Free: there is no
/// rhythm, or the sensor moves at every reading; then a steady rate is as good as any.
class Rhythm {
public:
    /// `usual_ns`: the sensor's usual refresh period, where the search begins; 0 for a sensor that
    /// has none. `always_moves`: an update shows another value than the one before, as a counter's.
    explicit Rhythm(std::int64_t usual_ns, bool always_moves = true) noexcept;

    /// The reading at `read_ns` differs from the one at `before_ns`. `sensor_ns` is the sensor's
    /// own stamp of the change, or 0. Returns the moment of the newest change.
    Edge changed(std::int64_t before_ns, std::int64_t read_ns, std::int64_t sensor_ns) noexcept;

    /// The reading at `read_ns` is that of before; so may be the sensor's own stamp.
    void unchanged(std::int64_t read_ns, std::int64_t sensor_ns) noexcept;

    /// When to read next: at once where that is past. `spacing_ns` is how far apart edges worth a
    /// visit are; without a rhythm it is the period of a steady rate. `thrift`: how many times
    /// further apart than usual that spacing is, to spare cost. `free_ns`: nothing is begun
    /// earlier; what has been begun, and what a mark wants, goes on. `searches`: else a search
    /// waits.
    [[nodiscard]] std::int64_t next_read_ns(std::int64_t now_ns, std::int64_t spacing_ns,
                                            double thrift = 1.0, std::int64_t free_ns = 0,
                                            bool searches = true) noexcept;

    /// The same where a steady rate is kept anyway: when a mark wants a reading between its
    /// deadlines, else 0.
    [[nodiscard]] std::int64_t scan_ns() const noexcept;

    /// Somebody marked this moment: the next edge is worth a visit whatever the spacing. Returns
    /// whether a reading at once tells anything besides; else next_read_ns() says when one does.
    [[nodiscard]] bool mark(std::int64_t t_ns) noexcept;

    /// The refresh period as far as known: learned, else the usual one.
    [[nodiscard]] std::int64_t refresh_ns() const noexcept {
        return mode_ == Mode::locked ? tick_ns() : usual_ns_;
    }

    /// The learned refresh period; 0 while none is known.
    [[nodiscard]] std::int64_t tick_ns() const noexcept;

    [[nodiscard]] bool locked() const noexcept { return mode_ == Mode::locked; }
    [[nodiscard]] bool searching() const noexcept { return mode_ == Mode::searching; }

    /// Whether a mark gains something from a reading of its own: edges are not all visited.
    [[nodiscard]] bool wants_marks() const noexcept;

private:
    enum class Mode : std::uint8_t { searching, locked, free };
    enum class Stage : std::uint8_t { idle, before, after };
    static constexpr std::size_t kEdges = 16;
    static constexpr std::int64_t kLeastStepNs = 100'000; // between readings of a search
    // A pair of readings around an edge: not closer than threads wake up, nor so wide that it could
    // hold two edges.
    static constexpr double kLeastMarginNs = 100'000.0;
    static constexpr double kMostMargin = 0.3; // of a period

    void search_from(std::int64_t now_ns) noexcept;
    void begin_search(std::int64_t now_ns) noexcept;
    void nothing_found(std::int64_t now_ns) noexcept;
    void collect(const Edge& edge, std::int64_t before_ns, std::int64_t read_ns) noexcept;
    void try_to_lock(std::int64_t now_ns) noexcept;
    void give_up(std::int64_t now_ns) noexcept;
    void note_read(std::int64_t read_ns, std::int64_t sensor_ns) noexcept;
    [[nodiscard]] Edge guess(std::int64_t before_ns, std::int64_t read_ns) const noexcept;
    [[nodiscard]] Edge follow(std::int64_t before_ns, std::int64_t read_ns) noexcept;
    [[nodiscard]] Edge one_of_two(double edge_ns, double read_ns) noexcept;
    void widen() noexcept;
    void lose_count() noexcept;
    void confirm(double edge_ns, bool pair, bool sharp) noexcept;
    void correct(double edge_ns, double error_ns, double edges) noexcept;
    void distrust(int how_much, std::int64_t now_ns) noexcept;
    void look_after(double edge_ns, double found_ns, bool wanted) noexcept;
    void visited(std::int64_t read_ns, bool changed) noexcept;
    void finish_visit() noexcept;
    [[nodiscard]] std::int64_t next_visit_ns(std::int64_t now_ns, std::int64_t spacing_ns,
                                             double thrift, std::int64_t free_ns) noexcept;
    void choose_edge(double from_ns, std::int64_t spacing_ns, double thrift) noexcept;
    [[nodiscard]] std::int64_t next_search_ns(std::int64_t now_ns) noexcept;
    [[nodiscard]] bool stamped() const noexcept;

    const bool always_moves_;
    Mode mode_;
    std::int64_t usual_ns_;    // where nothing has been learned
    std::int64_t tick_ns_ = 0; // learned, but too short to lock on
    std::int64_t last_read_ns_ = 0;
    std::int64_t steady_ns_ = 0;     // newest deadline of the steady rate
    std::int64_t scan_until_ns_ = 0; // without a rhythm: a mark wants the next change found
    bool was_change_ = false;        // the newest reading

    struct {
        std::array<std::int64_t, kEdges> edges{};
        std::size_t count = 0;    // of edges
        std::int64_t step_ns = 0; // between readings
        std::int64_t began_ns = 0;
        std::int64_t shortest_ns = 0; // between changes, where no rhythm was found
        std::int64_t retry_ns = 0;    // no search before this
        std::int64_t pause_ns = 0;    // and how much later the one after it
        int still = 0;                // readings without a change, in a row
        int moving = 0;               // readings with one, in a row
        int blind = 0;                // changes between readings too far apart to tell when
        bool leaps = false;           // the period may be the usual one: no need to look earlier
        bool moved = false;           // a change has been seen, ever
    } search_;

    struct {
        double period_ns = 0.0;
        double edge_ns = 0.0;   // a point of the grid: the newest edge that was seen
        double margin_ns = 0.0; // a visit reads so long before and after the edge
        double jitter_ns = 0.0; // mean deviation of edges that were off the grid
        double reach = 1.0;     // edges that may be skipped without losing count
        int doubt = 0;
    } lock_;

    // Idle: next_visit_ns() chooses the next edge. Before: a reading is due just before it. After:
    // one is due just after it, and more if it is late. The visit ends by a change at the edge, or
    // by giving it up; both clear what was found, and, unless an older edge is in doubt, what a
    // mark wanted.
    struct {
        double edge_ns = 0.0; // on the grid: the one to be visited
        double last_ns = 0.0; // the one that was
        Stage stage = Stage::idle;
        int tries = 0;         // readings after it that found no change
        double found_ns = 0.0; // a reading so close to it found a change: its own, or an older one
        bool wanted = false;   // by a mark
        bool sparse = false;   // edges are skipped
    } visit_;

    struct {
        std::int64_t last_ns = 0;
        int trust = 0; // grows with stamps that stay while the reading does
    } stamp_;
};

} // namespace carbontracker
