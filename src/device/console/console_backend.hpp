// Where the bytes of a serial port go to and come from.
// Threads: write(), has_room() and receiver_ready() from any thread, also with the caller's lock held: they never block and never call
// back. The callbacks run on the back end's own thread, without locks of the back end that those three take.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/integer.hpp"
#include "base/result.hpp"

namespace anyhyve {

class ConsoleBackend {
public:
    // Takes as many of the bytes as it has room for and returns how many. The rest is offered again after receiver_ready().
    using Receiver = std::function<std::size_t(std::span<u8 const>)>;
    // The other side reads again: called once has_room() was false and no longer is.
    using Drained = std::function<void()>;

    virtual ~ConsoleBackend() = default;
    // Bytes beyond the room are lost.
    virtual void write(std::span<u8 const>) = 0;
    virtual bool has_room() = 0;
    // Empty functions disconnect; on return no callback runs any more.
    virtual void set_receiver(Receiver, Drained) = 0;
    virtual void receiver_ready() = 0;
    // "pseudo-terminal /dev/pts/4": for the person who runs the program.
    virtual std::string description() const = 0;
};

// What the person at a terminal can ask for: Ctrl-A x.
using LeaveCallback = std::function<void()>;

// "stdio", "tcp=[address:]port", "autopty[=link]", "file=path", "none", or the path of a terminal device. `leave` is called on the
// back end's thread when Ctrl-A x is typed at stdio.
Result<std::unique_ptr<ConsoleBackend>> create_console_backend(std::string const& text, LeaveCallback leave = {});

} // namespace anyhyve
