// The appearance of a machine at /dev/vmm/NAME.
#include "machine/device_node.hpp"

#include <climits>
#include <sys/stat.h>
#include <unistd.h>

namespace anyhyve::machine {

namespace {

constexpr char node_directory[] = "/dev/vmm";

std::string node_path(std::string const& name)
{
    return std::string(node_directory) + "/" + name;
}

// Where the link leads; empty when there is none.
std::string link_target(std::string const& path)
{
    char target[PATH_MAX];
    ssize_t const length = readlink(path.c_str(), target, sizeof target);
    return length < 0 ? std::string() : std::string(target, static_cast<std::size_t>(length));
}

} // namespace

void publish_device_node(std::string const& name, std::string const& directory)
{
    if (geteuid() != 0)
        return;
    mkdir(node_directory, 0755);
    std::string const path = node_path(name);
    if (link_target(path) == directory)
        return;
    // Only links are replaced: whatever else has the name is not ours.
    if (!link_target(path).empty())
        unlink(path.c_str());
    if (symlink(directory.c_str(), path.c_str()) != 0)
        return;
}

void withdraw_device_node(std::string const& name, std::string const& directory)
{
    std::string const path = node_path(name);
    if (link_target(path) == directory)
        unlink(path.c_str());
}

} // namespace anyhyve::machine
