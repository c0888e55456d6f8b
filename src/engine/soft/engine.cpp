// The software engine of one machine: its code cache, and the watch on guest memory.
#include "engine/soft/engine.hpp"

#include "engine/soft/profiler.hpp"
#include "engine/soft/vcpu.hpp"

namespace anyhyve::soft {

namespace {

class SoftEngine : public Engine, public MemoryWatcher {
public:
    SoftEngine(GuestMemory& memory, std::unique_ptr<Profiler> profiler, std::unique_ptr<CodeCache> cache)
        : m_memory(memory), m_profiler(std::move(profiler)), m_cache(std::move(cache)), m_thunks(Thunks::generate(*m_cache))
    {
        if (m_profiler)
            m_profiler->add_thunks(m_thunks, m_cache->code_start(), m_cache->code_end());
        m_memory.set_watcher(this);
    }
    ~SoftEngine() override { m_memory.set_watcher(nullptr); }

    std::string name() const override { return "soft"; }
    Result<std::unique_ptr<Vcpu>> create_vcpu(VcpuWires const& wires) override
    {
        return std::unique_ptr<Vcpu>(std::make_unique<SoftVcpu>(wires, *m_cache, m_thunks, m_crowd));
    }
    void memory_written(Gpa address, u64 size) override
    {
        std::lock_guard lock(m_cache->lock());
        m_cache->tell_line_watchers(address.value(), size);
        m_cache->invalidate(address.value(), size);
    }

    Profile profile() override
    {
        Profile profile;
        std::lock_guard lock(m_cache->lock());
        report_profile(*m_cache, m_profiler.get(), m_memory, profile);
        return profile;
    }

private:
    GuestMemory& m_memory;
    std::unique_ptr<Profiler> m_profiler;
    std::unique_ptr<CodeCache> m_cache;
    Thunks m_thunks;
    Crowd m_crowd;
};

} // namespace

Result<std::unique_ptr<Engine>> create_engine(GuestMemory& memory, EngineOptions const& options)
{
    auto profiler = TRY(Profiler::create(options));
    auto cache = TRY(CodeCache::create(memory, profiler.get()));
    return std::unique_ptr<Engine>(std::make_unique<SoftEngine>(memory, std::move(profiler), std::move(cache)));
}

} // namespace anyhyve::soft
