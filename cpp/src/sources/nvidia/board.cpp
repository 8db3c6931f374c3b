#include "sources/nvidia/board.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "platform/forks.hpp"
#include "sources/nvidia/errors.hpp"

namespace carbontracker::nvml {
namespace {

constexpr std::size_t kMaxLanes = 3;

// A sensor that worked before counts as gone after this many refusals in a row.
constexpr unsigned kMaxRefusals = 3;

// After this many failures in a row of any kind the board is left alone for a while.
constexpr unsigned kMaxFailures = 8;

// A call that takes this long blurs its reading and delays the other boards: read such a board at
// growing intervals.
constexpr std::int64_t kSlowNs = kNanosPerSecond;

constexpr int kCostReads = 3;

Status settle(Lane& lane, Action what, bool is_plausible) noexcept {
    if (what != Action::refuse) lane.refusals = 0;
    if (what != Action::retry) lane.failures = 0;
    switch (what) {
    case Action::use: return is_plausible ? Status::ok : Status::retry;
    case Action::retry: return ++lane.failures >= kMaxFailures ? Status::lost : Status::retry;
    case Action::refuse: lane.is_gone = ++lane.refusals >= kMaxRefusals; break;
    case Action::reopen: return Status::lost;
    case Action::abandon: lane.is_gone = true; break;
    }
    return lane.is_gone ? Status::gone : Status::retry;
}

// Power beyond the board's limit is a known firmware fault, and a board that answers draws power.
bool is_plausible(const Lane& lane, std::uint64_t raw) noexcept {
    return lane.quantity != Quantity::power || (raw > 0 && raw <= lane.max_raw);
}

// A value that is refused stays in the reading, so that the sampler can name it.
Reading judge(Lane& lane, int status, std::optional<std::uint64_t> raw, const Call& call) noexcept {
    if (action(status) != Action::use) raw.reset();
    const bool sound = raw && is_plausible(lane, *raw);
    Reading reading{call.middle_ns(), raw.value_or(0), Status::lost, 0};
    if (call.took_ns() < kSlowNs) reading.status = settle(lane, action(status), sound);
    return reading;
}

} // namespace

Board::Board(const Library& library, Device device, std::string uuid)
    : library_(&library), device_(device), uuid_(std::move(uuid)), generation_(fork_generation()) {
    lanes_.reserve(kMaxLanes);
}

void Board::add(const Lane& lane) {
    lanes_.push_back(lane);
    scratch_.resize(std::max(scratch_.size(), lane.channel + 1));
}

void Board::attach(std::size_t lane, PowerBuffer buffer) {
    buffer_ = std::move(buffer);
    buffered_lane_ = lane;
}

bool Board::is_field(const Lane& lane) const noexcept {
    return lane.accessor.field != 0 && !is_buffered(lane);
}

bool Board::is_buffered(const Lane& lane) const noexcept {
    return buffer_ && !buffer_->is_dead() && &lane == &lanes_[buffered_lane_];
}

void Board::read(std::span<Reading> readings) noexcept {
    const bool is_ours = generation_ == fork_generation();
    int status = is_ours ? read_fields(readings) : int{kSuccess};
    for (Lane& lane : lanes_) {
        Reading& reading = readings[lane.channel];
        if (!is_ours || lane.is_gone) {
            reading = {now_ns(), 0, Status::gone, 0};
        } else if (is_field(lane)) {
            continue; // read with the others
        } else if (action(status) == Action::reopen) {
            // Do not call a lost board a second time.
            reading = {now_ns(), 0, Status::lost, 0};
        } else {
            status = is_buffered(lane) ? read_buffer(lane, reading) : read_function(lane, reading);
        }
    }
}

int Board::read_fields(std::span<Reading> readings) noexcept {
    std::array<FieldValue, kMaxLanes> fields{};
    std::array<Lane*, kMaxLanes> asked{};
    std::size_t count = 0;
    for (Lane& lane : lanes_) {
        if (lane.is_gone || !is_field(lane)) continue;
        fields[count].field_id = lane.accessor.field;
        fields[count].scope_id = lane.accessor.scope;
        asked[count++] = &lane;
    }
    if (count == 0) return kSuccess;
    Call call{now_ns(), 0};
    int status = library_->field_values(device_, static_cast<int>(count), fields.data());
    call.after_ns = now_ns();
    const std::int64_t offset_ns = wall_offset_ns();
    const bool is_whole = status == kSuccess;
    for (std::size_t i = 0; i < count; ++i) {
        const FieldValue& field = fields[i];
        int own = is_whole ? field.status : status;
        // For one field of several this means NOT_SUPPORTED; for all of them it means that the
        // handle is invalid.
        if (is_whole && own == kInvalidArgument) own = kNotSupported;
        if (action(own) == Action::reopen) status = own;
        const auto raw = own == kSuccess ? decode(field.value, field.value_type) : std::nullopt;
        Reading& reading = readings[asked[i]->channel];
        reading = judge(*asked[i], own, raw, call);
        if (reading.status != Status::ok) continue;
        reading.sensor_ns = asked[i]->clock.take(field.timestamp_us, offset_ns, call);
    }
    return status;
}

int Board::read_function(Lane& lane, Reading& reading) const noexcept {
    unsigned long long millijoules = 0;
    unsigned milliwatts = 0;
    const bool is_counter = lane.quantity == Quantity::energy_counter;
    Call call{now_ns(), 0};
    const int status = is_counter ? library_->energy_millijoules(device_, &millijoules)
                                  : library_->power_milliwatts(device_, &milliwatts);
    call.after_ns = now_ns();
    reading = judge(lane, status, is_counter ? millijoules : milliwatts, call);
    return status;
}

// Between two fetches the reading does not change.
int Board::read_buffer(Lane& lane, Reading& reading) noexcept {
    Call call{now_ns(), 0};
    int status = kSuccess;
    if (buffer_->is_due(call.before_ns)) status = buffer_->fetch(device_);
    call.after_ns = now_ns();
    const Reading& newest = buffer_->newest();
    const Status judged = judge(lane, status, newest.raw, call).status;
    // The power may be readable even if the buffer is refused.
    reading = newest;
    reading.status = judged == Status::gone ? Status::retry : judged;
    lane.is_gone = false;
    return status;
}

bool Board::reopen() noexcept {
    if (generation_ != fork_generation()) return false;
    Device device = nullptr;
    int status = library_->handle_by_uuid(uuid_.c_str(), &device);
    if (status == kUninitialized || status == kDriverNotLoaded) {
        // Never shut NVML down: the init of another user of the library could be undone.
        if (library_->init() != kSuccess) return false;
        status = library_->handle_by_uuid(uuid_.c_str(), &device);
    }
    if (status != kSuccess) return false;
    device_ = device;
    read(scratch_);
    return std::any_of(lanes_.begin(), lanes_.end(), [&](const Lane& lane) {
        return scratch_[lane.channel].status == Status::ok;
    });
}

std::size_t Board::history(std::size_t channel, std::span<Reading> out) noexcept {
    const bool kept =
        generation_ == fork_generation() && buffer_ && lanes_[buffered_lane_].channel == channel;
    return kept ? buffer_->take(out) : 0;
}

std::int64_t Board::cost_ns() noexcept {
    std::int64_t least_ns = std::numeric_limits<std::int64_t>::max();
    for (int i = 0; i < kCostReads; ++i) {
        const std::int64_t before_ns = now_ns();
        read(scratch_);
        least_ns = std::min(least_ns, now_ns() - before_ns);
    }
    return least_ns;
}

} // namespace carbontracker::nvml
