// Numbers as people write them on a command line.
#include "machine/quantities.hpp"

#include <charconv>

#include "base/bits.hpp"

namespace anyhyve::machine {

std::vector<std::string_view> split(std::string_view text, char separator)
{
    std::vector<std::string_view> parts;
    for (;;) {
        auto const at = text.find(separator);
        parts.push_back(text.substr(0, at));
        if (at == std::string_view::npos)
            return parts;
        text.remove_prefix(at + 1);
    }
}

Result<u64> parse_number(std::string_view text, std::string_view object)
{
    std::string_view digits = text;
    int base = 10;
    if (digits.starts_with("0x") || digits.starts_with("0X")) {
        digits.remove_prefix(2);
        base = 16;
    }
    u64 value = 0;
    auto const [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (failure == std::errc::result_out_of_range)
        return make_error(ERANGE, "{} '{}' is too large a number", object, text);
    if (failure != std::errc() || end != digits.data() + digits.size())
        return make_error(EINVAL, "{} '{}' is not a number", object, text);
    return value;
}

namespace {

// The shift that a size suffix stands for, or -1.
int suffix_shift(char suffix)
{
    constexpr std::string_view suffixes = "kmgt";
    auto const at = suffixes.find(static_cast<char>(suffix | 0x20));
    return at == std::string_view::npos ? -1 : static_cast<int>(at + 1) * 10;
}

} // namespace

Result<u64> parse_memory_size(std::string_view text)
{
    std::string_view digits = text;
    int shift = 0;
    if (!digits.empty() && (digits.back() < '0' || digits.back() > '9')) {
        shift = suffix_shift(digits.back());
        if (shift < 0)
            return make_error(EINVAL, "memory size '{}' is not a number with suffix K, M, G or T", text);
        digits.remove_suffix(1);
    }
    u64 size = 0;
    auto const [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), size);
    if (digits.empty() || end != digits.data() + digits.size() || (failure != std::errc() && failure != std::errc::result_out_of_range))
        return make_error(EINVAL, "memory size '{}' is not a number with suffix K, M, G or T", text);
    if (shift == 0 && size < MiB)
        shift = 20;
    if (failure == std::errc::result_out_of_range || size > (largest_memory >> shift))
        return make_error(EINVAL, "memory size '{}' is too large: at most {}", text, memory_size_text(largest_memory));
    size <<= shift;
    if (size < smallest_memory)
        return make_error(EINVAL, "memory size '{}' is too small: at least {}", text, memory_size_text(smallest_memory));
    if (!is_aligned(size, 4 * KiB))
        return make_error(EINVAL, "memory size '{}' is not a multiple of 4K", text);
    return size;
}

std::string memory_size_text(u64 size)
{
    if (size != 0 && size % GiB == 0)
        return fmt::format("{}G", size / GiB);
    if (size != 0 && size % MiB == 0)
        return fmt::format("{}M", size / MiB);
    return size % KiB == 0 ? fmt::format("{}K", size / KiB) : fmt::format("{}", size);
}

Result<Topology> complete_topology(unsigned cpus, unsigned sockets, unsigned cores, unsigned threads)
{
    bool const only_count = sockets == 0 && cores == 0 && threads == 0;
    Topology topology;
    topology.sockets = only_count && cpus ? cpus : (sockets ? sockets : 1);
    topology.cores = cores ? cores : 1;
    topology.threads = threads ? threads : 1;
    u64 const product = u64 { topology.sockets } * topology.cores * topology.threads;
    if (cpus != 0 && product != cpus)
        return make_error(EINVAL, "CPU topology: {} sockets of {} cores of {} threads are not {} virtual CPUs", topology.sockets, topology.cores,
            topology.threads, cpus);
    if (product > largest_vcpu_count)
        return make_error(EINVAL, "{} virtual CPUs are too many: at most {}", product, largest_vcpu_count);
    topology.cpus = static_cast<unsigned>(product);
    return topology;
}

} // namespace anyhyve::machine
