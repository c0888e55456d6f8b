// Parsing of a disk's options.
#include "device/storage/block_options.hpp"

#include <bit>
#include <charconv>

namespace anyhyve {

namespace {

constexpr u32 smallest_sector = 512;
constexpr u32 largest_sector = 64 * KiB;

bool parse_sector(std::string_view text, u32& size)
{
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
    return error == std::errc {} && end == text.data() + text.size() && std::has_single_bit(size) && size >= smallest_sector
        && size <= largest_sector;
}

} // namespace

Result<BlockOptions> BlockOptions::parse(DeviceOptions const& given)
{
    BlockOptions options;
    options.path = given.text("path");
    if (options.path.empty())
        return make_error(EINVAL, "the disk has no path");
    options.no_cache = TRY(given.boolean("nocache", false));
    options.synchronous = TRY(given.boolean("direct", false)) || TRY(given.boolean("sync", false));
    options.read_only = TRY(given.boolean("ro", false));
    options.no_delete = TRY(given.boolean("nodelete", false));
    if (given.has("bootindex"))
        options.boot_index = TRY(given.number("bootindex", 0, 0, 0xffff'ffff));
    if (std::string const sizes = given.text("sectorsize"); !sizes.empty()) {
        auto const slash = sizes.find('/');
        std::string_view const logical = std::string_view(sizes).substr(0, slash);
        std::string_view const physical = slash == std::string::npos ? logical : std::string_view(sizes).substr(slash + 1);
        if (!parse_sector(logical, options.logical_sector) || !parse_sector(physical, options.physical_sector)
            || options.physical_sector < options.logical_sector)
            return make_error(EINVAL, "{}: sectorsize={}: expected powers of two from {} to {}, the physical one not the smaller", options.path,
                sizes, smallest_sector, largest_sector);
    }
    return options;
}

} // namespace anyhyve
