// Exceptions that a copied instruction raises on the host, turned into the guest's: #DE, #MF, #XM, and #GP for misalignment.
#pragma once

#include "engine/soft/cpu.hpp"

namespace anyhyve::soft {

// While one exists, this thread runs `cpu`: signals go to a stack of their own (the guest chooses what RSP holds), asynchronous ones are
// blocked, the handlers are in place, and GS base is the Cpu.
class SignalScope {
public:
    explicit SignalScope(Cpu&);
    ~SignalScope();
    SignalScope(SignalScope const&) = delete;
    SignalScope& operator=(SignalScope const&) = delete;

private:
    struct Kept;
    Kept* m_kept;
};

// Guest code is about to run, from the thread of the vCPU's SignalScope: look now and then where it is (take_sample() in block_events.cpp).
void resume_sampling(Cpu&);

} // namespace anyhyve::soft
