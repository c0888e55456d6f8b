// Taking a virtual machine over to put something into it.
#include "machine/vm_claim.hpp"

#include <cstdlib>

#include "base/log.hpp"
#include "machine/device_node.hpp"
#include "machine/loader.hpp"

namespace anyhyve::machine {

Result<ClaimedVm> claim_for_loading(VmDirectory& directory, std::string const& name, u64 memory_size, ConfigTree config)
{
    auto existing = directory.open_vm(name);
    // create() replaces a damaged one.
    if (!existing.ok() && existing.error().code() != ENOENT && existing.error().code() != EBADMSG)
        return existing.release_error();
    ClaimedVm claimed;
    if (existing.ok()) {
        claimed.vm = existing.release_value();
        TRY(claimed.vm->lock());
        TRY(claimed.vm->reinitialise(memory_size, std::move(config)));
    } else {
        claimed.vm = TRY(directory.create(name, memory_size, std::move(config)));
        claimed.created = true;
    }
    publish_device_node(name, claimed.vm->path());
    return claimed;
}

void abandon(VmDirectory& directory, ClaimedVm claimed)
{
    if (!claimed.created)
        return;
    withdraw_device_node(claimed.vm->name(), claimed.vm->path());
    if (auto const destroyed = directory.destroy(std::move(claimed.vm)); !destroyed.ok())
        log::error("{}", destroyed.error().message());
}

Result<void> destroy_vm(VmDirectory& directory, std::string const& name)
{
    TRY(directory.destroy(name));
    withdraw_device_node(name, directory.path() + "/" + name);
    return {};
}

BootRequest with_absolute_paths(BootRequest request)
{
    for (std::string* path : { &request.kernel, &request.initrd }) {
        char* const absolute = path->empty() ? nullptr : realpath(path->c_str(), nullptr);
        if (absolute)
            *path = absolute;
        std::free(absolute);
    }
    for (auto& module : request.modules) {
        auto const words = split_module(module);
        char* const absolute = realpath(words.path.c_str(), nullptr);
        if (absolute)
            module = words.text.empty() ? absolute : fmt::format("{} {}", absolute, words.text);
        std::free(absolute);
    }
    return request;
}

namespace {

// A percent sign of the text means nothing more in the variable.
std::string literal(std::string_view text)
{
    std::string out;
    for (char const c : text)
        out += c == '%' ? std::string("%%") : std::string(1, c);
    return out;
}

} // namespace

Result<void> remember_boot_request(ConfigTree& config, BootRequest const& request)
{
    TRY(config.erase("boot"));
    TRY(config.set("boot.protocol", request.entry == "multiboot" ? "multiboot" : "linux"));
    TRY(config.set("boot.kernel", literal(request.kernel)));
    TRY(config.set("boot.entry", request.entry));
    if (!request.initrd.empty())
        TRY(config.set("boot.initrd", literal(request.initrd)));
    if (!request.command_line.empty())
        TRY(config.set("boot.cmdline", literal(request.command_line)));
    for (std::size_t i = 0; i < request.modules.size(); ++i)
        TRY(config.set(fmt::format("boot.module.{}", i), literal(request.modules[i])));
    return {};
}

} // namespace anyhyve::machine
