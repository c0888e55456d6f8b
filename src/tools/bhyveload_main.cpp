// bhyveload: puts a kernel into a virtual machine and exits.
#include <cstdlib>

#include "machine/loader.hpp"
#include "machine/saved_state.hpp"
#include "machine/vm_claim.hpp"
#include "tools/fatal_signals.hpp"
#include "tools/message.hpp"
#include "tools/tool_tables.hpp"

using namespace anyhyve;
using namespace anyhyve::tools;

namespace {

struct Request {
    machine::BootRequest boot;
    u64 memory_size = 256 * MiB;
    bool wired = false;
    bool in_core = false;
    std::string name;
};

Result<void> take_option(GivenOption const& given, Request& request)
{
    auto const& value = given.value;
    switch (given.option->letter) {
    case 'k':
        request.boot.kernel = value;
        return {};
    case 'i':
        request.boot.initrd = value;
        return {};
    case 'a':
        request.boot.command_line = value;
        return {};
    case 'm':
        request.memory_size = TRY(machine::parse_memory_size(value));
        return {};
    case 'C':
        request.in_core = true;
        return {};
    case 'S':
        request.wired = true;
        return {};
    case 'c':
        if (value != "stdio" && access(value.c_str(), R_OK | W_OK) != 0)
            return Error::from_errno(errno, value);
        return {};
    case 0:
        if (given.option->name == "entry")
            request.boot.entry = value;
        else if (given.option->name == "module")
            request.boot.modules.push_back(value);
        return {};
    default: // -d, -e, -h, -l
        return make_error(ENOTSUP, "-{} {}: the FreeBSD boot loader is not part of this version; load a kernel with -k", given.option->letter, value);
    }
}

Result<Request> read_request(CommandLine const& line)
{
    Request request;
    for (auto const& given : line.options)
        TRY(take_option(given, request));
    if (line.operands.size() != 1)
        return Error(line.operands.empty() ? "the name of a virtual machine is missing" : "only one virtual machine can be named", EINVAL);
    request.name = line.operands[0];
    TRY(VmDirectory::check_name(request.name));
    if (!request.boot.wanted())
        return Error("-k KERNEL is missing: the FreeBSD boot loader is not part of this version", ENOTSUP);
    return request;
}

Result<void> load_into(Vm& vm, Request const& request)
{
    if (request.wired)
        TRY(vm.allocate_memory());
    auto const memory = TRY(vm.open_memory());
    auto const guest = TRY(machine::load_guest(*memory, request.boot));
    return vm.save_state(machine::SavedState::of_loaded(guest.bsp).encode());
}

Result<void> load(Request request)
{
    request.boot = machine::with_absolute_paths(request.boot);
    TRY(machine::check_boot_files(request.boot));
    ConfigTree config;
    TRY(machine::remember_boot_request(config, request.boot));
    TRY(config.set(vm_key::loader, "bhyveload"));
    TRY(config.set_boolean("memory.wired", request.wired));
    TRY(config.set_boolean("memory.guest_in_core", request.in_core));
    auto directory = TRY(VmDirectory::open());
    auto claimed = TRY(machine::claim_for_loading(directory, request.name, request.memory_size, std::move(config)));
    auto loaded = load_into(*claimed.vm, request);
    if (!loaded.ok())
        machine::abandon(directory, std::move(claimed));
    return loaded;
}

int run(int count, char** arguments)
{
    Tool const& tool = bhyveload_tool();
    auto line = parse_command_line(tool, count, arguments);
    if (!line.ok()) {
        complain(tool.name, line.error().message());
        std::fputs(usage_text(tool).c_str(), stderr);
        return EXIT_FAILURE;
    }
    for (auto const& given : line.value().options) {
        if (print_information(tool, given))
            return EXIT_SUCCESS;
    }
    install_fatal_signal_handlers("bhyveload", EXIT_FAILURE);
    auto request = read_request(line.value());
    auto const done = request.ok() ? load(request.release_value()) : Result<void>(request.release_error());
    if (!done.ok()) {
        complain(tool.name, done.error().message());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

} // namespace

int main(int count, char** arguments)
{
    return run(count, arguments);
}
