// The thread of one virtual CPU.
#include "machine/vcpu_thread.hpp"

#include "base/log.hpp"
#include "host/thread.hpp"

namespace anyhyve::machine {

VcpuThread::~VcpuThread()
{
    stop();
}

Result<void> VcpuThread::start(std::vector<unsigned> const& host_cpus, std::function<void()> body)
{
    m_thread = TRY(host::start_thread(fmt::format("vcpu {}", m_id), [this, host_cpus, body = std::move(body)] {
        if (!host_cpus.empty())
            if (auto const pinned = host::pin_thread(host_cpus); !pinned.ok())
                log::warning("vCPU {} is not pinned: {}", m_id, pinned.error().message());
        host::set_precise_wakeups();
        body();
        std::lock_guard const lock(m_mutex);
        m_parked = true;
        m_changed.notify_all();
    }));
    return {};
}

void VcpuThread::resume()
{
    std::lock_guard const lock(m_mutex);
    if (m_wish == Wish::stop)
        return;
    m_wish = Wish::run;
    m_changed.notify_all();
}

void VcpuThread::ask_to_park()
{
    std::lock_guard const lock(m_mutex);
    if (m_wish == Wish::run || m_wish == Wish::step)
        m_wish = Wish::park;
    m_vcpu->kick();
    m_changed.notify_all();
}

void VcpuThread::wait_until_parked()
{
    std::unique_lock lock(m_mutex);
    m_changed.wait(lock, [this] { return m_parked; });
}

void VcpuThread::stop()
{
    if (!m_thread.joinable())
        return;
    {
        std::lock_guard const lock(m_mutex);
        m_wish = Wish::stop;
        m_vcpu->kick();
        m_changed.notify_all();
    }
    m_thread.join();
}

bool VcpuThread::is_parked() const
{
    std::lock_guard const lock(m_mutex);
    return m_parked;
}

void VcpuThread::forget_halt()
{
    std::lock_guard const lock(m_mutex);
    m_halted = false;
}

bool VcpuThread::may_run()
{
    std::unique_lock lock(m_mutex);
    while (m_wish == Wish::park || (m_wish != Wish::stop && m_halted)) {
        m_parked = true;
        m_changed.notify_all();
        m_changed.wait(lock);
    }
    m_parked = false;
    m_wakeups_before_run = m_wakeups;
    m_stepping = m_wish == Wish::step;
    return m_wish != Wish::stop;
}

RunExit VcpuThread::run()
{
    return m_stepping ? m_vcpu->step() : m_vcpu->run();
}

bool VcpuThread::step(std::chrono::milliseconds patience)
{
    std::unique_lock lock(m_mutex);
    if (m_wish != Wish::park || !m_parked || m_halted)
        return false;
    m_wish = Wish::step;
    m_stepped = m_parked = false;
    m_changed.notify_all();
    if (!m_changed.wait_for(lock, patience, [this] { return m_parked; })) {
        m_wish = Wish::park;
        m_vcpu->kick();
        m_changed.wait(lock, [this] { return m_parked; });
    }
    return m_stepped;
}

void VcpuThread::returned(RunExit reason)
{
    std::lock_guard const lock(m_mutex);
    if (m_stepping) {
        m_stepped = reason != RunExit::kicked;
        // A kick that was meant for an earlier run has ended this one: it is tried again.
        if (m_wish == Wish::step && m_stepped)
            m_wish = Wish::park;
    }
    if (reason == RunExit::halted)
        m_halted = m_wakeups == m_wakeups_before_run;
    else if (reason != RunExit::kicked && m_wish == Wish::run)
        m_wish = Wish::park;
}

void VcpuThread::wake_from_halt()
{
    std::lock_guard const lock(m_mutex);
    ++m_wakeups;
    m_halted = false;
    m_changed.notify_all();
}

void VcpuThread::nmi()
{
    m_vcpu->nmi();
    wake_from_halt();
}

void VcpuThread::init()
{
    m_vcpu->init();
    wake_from_halt();
}

void VcpuThread::startup(u8 vector)
{
    m_vcpu->startup(vector);
    wake_from_halt();
}

} // namespace anyhyve::machine
