// Learns from the readings when a sensor updates its value: a small phase-locked loop.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace carbontracker {

/// The time of a change.
struct Edge {
    std::int64_t t_ns = 0;
    std::int64_t time_ci95_ns = 0; ///< half-width of the 95 % interval of t_ns
};

/// Pure arithmetic, without a clock; one per channel.
///
/// Only a change of a reading carries information, and most sensors change periodically.
/// Searching: readings in small steps find the period and the phase. Locked: one reading just
/// before and one just after an edge confirm it. The pair narrows while it contains the edge and
/// widens when it does not, so that its width matches the sensor's jitter. Free: there is no
/// period, or the sensor changes at every reading; then a steady rate is best.
class Rhythm {
public:
    /// `usual_ns`: the sensor's usual refresh period, where the search begins; 0: it has none.
    /// `always_moves`: each update changes the value, as with a counter.
    explicit Rhythm(std::int64_t usual_ns, bool always_moves = true) noexcept;

    /// The reading at `read_ns` differs from the one at `before_ns`. `sensor_ns` is the sensor's
    /// own time stamp of the change, or 0. Returns the time of the newest change.
    Edge changed(std::int64_t before_ns, std::int64_t read_ns, std::int64_t sensor_ns) noexcept;

    /// The reading at `read_ns` equals the one before it; so may the sensor's own time stamp.
    void unchanged(std::int64_t read_ns, std::int64_t sensor_ns) noexcept;

    /// The time of the next read; at once if that is past. `spacing_ns`: distance between edges
    /// that are worth a visit; without a rhythm, the period of a steady rate. `spacing_factor`: how
    /// many times the usual distance that is, to save cost. `free_ns`: no new work starts before
    /// this time; visits in progress and reads for marks continue. `searches`: whether a search may
    /// run now.
    [[nodiscard]] std::int64_t next_read_ns(std::int64_t now_ns, std::int64_t spacing_ns,
                                            double spacing_factor = 1.0, std::int64_t free_ns = 0,
                                            bool searches = true) noexcept;

    /// With a steady rate: when a mark needs a read between its deadlines, else 0.
    [[nodiscard]] std::int64_t scan_ns() const noexcept;

    /// A mark at this time: the next edge is worth a visit at any spacing. Returns whether a read
    /// at once adds information; else next_read_ns() returns the best time.
    [[nodiscard]] bool mark(std::int64_t t_ns) noexcept;

    /// The refresh period: learned, else the usual one.
    [[nodiscard]] std::int64_t refresh_ns() const noexcept {
        return mode_ == Mode::locked ? tick_ns() : usual_ns_;
    }

    /// The learned refresh period; 0: unknown.
    [[nodiscard]] std::int64_t tick_ns() const noexcept;

    [[nodiscard]] bool locked() const noexcept { return mode_ == Mode::locked; }
    [[nodiscard]] bool searching() const noexcept { return mode_ == Mode::searching; }

    /// Whether a mark gains from a read of its own: not if every edge is visited anyway.
    [[nodiscard]] bool benefits_from_edge_read() const noexcept;

private:
    enum class Mode : std::uint8_t { searching, locked, free };
    enum class Stage : std::uint8_t { idle, before, after };
    static constexpr std::size_t kEdges = 16;
    static constexpr std::int64_t kMinStepNs = 100'000; // between readings of a search
    // A pair of readings around an edge is not closer than the jitter of wake-ups, and not so wide
    // that it could contain two edges.
    static constexpr double kMinMarginNs = 100'000.0;
    static constexpr double kMaxMargin = 0.3; // of a period

    void search_from(std::int64_t now_ns) noexcept;
    void begin_search(std::int64_t now_ns) noexcept;
    void nothing_found(std::int64_t now_ns) noexcept;
    void collect(const Edge& edge, std::int64_t before_ns, std::int64_t read_ns) noexcept;
    void try_to_lock(std::int64_t now_ns) noexcept;
    void give_up(std::int64_t now_ns) noexcept;
    void note_read(std::int64_t read_ns, std::int64_t sensor_ns) noexcept;
    [[nodiscard]] Edge guess(std::int64_t before_ns, std::int64_t read_ns) const noexcept;
    [[nodiscard]] Edge follow(std::int64_t before_ns, std::int64_t read_ns) noexcept;
    [[nodiscard]] Edge ambiguous_edge(double edge_ns, double read_ns) noexcept;
    void widen() noexcept;
    void lose_count() noexcept;
    void confirm(double edge_ns, bool pair, bool sharp) noexcept;
    void correct(double edge_ns, double error_ns, double edges) noexcept;
    void distrust(int how_much, std::int64_t now_ns) noexcept;
    void schedule_post_edge_read(double edge_ns, double found_ns, bool wanted) noexcept;
    void visited(std::int64_t read_ns, bool changed) noexcept;
    void finish_visit() noexcept;
    [[nodiscard]] std::int64_t next_visit_ns(std::int64_t now_ns, std::int64_t spacing_ns,
                                             double spacing_factor, std::int64_t free_ns) noexcept;
    void choose_edge(double from_ns, std::int64_t spacing_ns, double spacing_factor) noexcept;
    [[nodiscard]] std::int64_t next_search_ns(std::int64_t now_ns) noexcept;
    [[nodiscard]] bool stamped() const noexcept;

    const bool always_moves_;
    Mode mode_;
    std::int64_t usual_ns_;    // until it is learned
    std::int64_t tick_ns_ = 0; // learned, but too short for a lock
    std::int64_t last_read_ns_ = 0;
    std::int64_t steady_ns_ = 0;     // newest deadline of the steady rate
    std::int64_t scan_until_ns_ = 0; // without a rhythm: a mark needs the next change
    bool was_change_ = false;        // whether the newest reading showed a change

    struct {
        std::array<std::int64_t, kEdges> edges{};
        std::size_t count = 0;    // of edges
        std::int64_t step_ns = 0; // between readings
        std::int64_t began_ns = 0;
        std::int64_t shortest_ns = 0; // shortest time between changes, where no rhythm was found
        std::int64_t retry_ns = 0;    // no search before this time
        std::int64_t pause_ns = 0;    // delay of the search after that
        int still = 0;                // consecutive readings without a change
        int moving = 0;               // consecutive readings with a change
        int blind = 0;                // changes whose readings were too far apart to time them
        bool leaps = false;           // the period may be the usual one: skip earlier readings
        bool moved = false;           // a change has ever been seen
    } search_;

    struct {
        double period_ns = 0.0;
        double edge_ns = 0.0;   // a grid point: the newest edge that was seen
        double margin_ns = 0.0; // a visit reads this long before and after the edge
        double jitter_ns = 0.0; // mean deviation of edges that were off the grid
        double reach = 1.0;     // edges that may be skipped without losing the phase
        int doubt = 0;
    } lock_;

    // Idle: next_visit_ns() chooses the next edge. Before: a reading is due just before it. After:
    // one is due just after it, and more if the update is late. The visit ends with a change at the
    // edge, or is given up. Both clear `found_ns`, and also `wanted` unless an older edge is
    // ambiguous.
    struct {
        double edge_ns = 0.0; // grid point to be visited
        double last_ns = 0.0; // grid point of the visit before
        Stage stage = Stage::idle;
        int tries = 0; // readings after it without a change
        double found_ns =
            0.0; // a reading this close to it found a change, of this edge or of the one before
        bool wanted = false; // by a mark
        bool sparse = false; // some edges are skipped
    } visit_;

    struct {
        std::int64_t last_ns = 0;
        int trust = 0; // grows with stamps that stay unchanged while the value does
    } stamp_;
};

} // namespace carbontracker
