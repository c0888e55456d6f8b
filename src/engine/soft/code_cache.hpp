// Translated blocks of one machine: their code, their records, and which guest memory they were made from.
// The code lives in one file mapped twice, writable and executable, never both at one address. When either part is full everything
// is dropped at once. Threads: all calls under lock(), except watched(), which any thread may ask.
#pragma once

#include <bitset>
#include <memory>
#include <mutex>
#include <vector>

#include "base/result.hpp"
#include "base/tally.hpp"
#include "engine/soft/block.hpp"
#include "engine/soft/cache_lock.hpp"
#include "host/mapping.hpp"

namespace anyhyve::soft {

class Profiler;

struct CacheStatistics {
    Tally blocks_translated, instructions_translated, guest_bytes, host_bytes;
    Tally blocks_invalidated, edges_linked, edges_unlinked, flushes, blocks_hot, sites_straying, sites_wandering;
};

class CodeCache {
    struct PageInfo {
        u64 lines = 0; // bit n: bytes 64n.. of the page were translated
        Block* blocks = nullptr;
        Block* tails = nullptr; // blocks that end here, from the page before
        u16 times_changed = 0;
        bool sticky = false;    // code here is rewritten again and again: stays watched even when none is translated
        bool line_watched = false;      // a virtual CPU sleeps, or has slept, until somebody stores here
        u16 stores_for_nobody = 0;      // since the last began to
    };

public:
    static constexpr u64 code_size = 14 * MiB; // with the records, and the rest that a vCPU has, under 32 MiB
    static constexpr u64 record_size = 12 * MiB;
    static constexpr u64 line_size = 64; // granularity of "translated from here"

    // `profiler`: outlives the cache; nullptr: nobody watches.
    static Result<std::unique_ptr<CodeCache>> create(GuestMemory&, Profiler* profiler = nullptr);
    ~CodeCache();
    CodeCache(CodeCache const&) = delete;
    CodeCache& operator=(CodeCache const&) = delete;

    CacheLock& lock() { return m_lock; }
    void add_cpu(Cpu& cpu) { m_cpus.push_back(&cpu); }
    void remove_cpu(Cpu&);

    Block* find(u64 physical, u64 rip, ModeBits) const;
    // The lines of one page that these bytes lie in, a bit each.
    static u64 lines_of(u64 physical, u64 size);
    // The block becomes visible.
    void insert(Block&);
    // Marks the lines as translated before their bytes are read: a store that comes later finds the mark, one that came earlier is read.
    // A page's first mark takes it out of every look-aside table's writes, with the other vCPUs standing still.
    void watch(Cpu&, u64 physical, u64 size);
    // In the order in which one reason may follow another without the others standing still.
    bool watched(u64 physical) const
    {
        PageInfo const* const info = page(physical);
        return info && (lines(*info) != 0 || sticky(*info) || line_watched(*info));
    }
    // Was anything translated from these bytes? After a store.
    bool translated_from(u64 physical, u64 size) const
    {
        std::atomic_thread_fence(std::memory_order_seq_cst);
        PageInfo const* const info = page(physical);
        return info && (lines(*info) & lines_of(physical, size));
    }
    // --- the other vCPUs, see activity.hpp ---
    bool standstill_wanted() const { return m_standstill.load(std::memory_order_seq_cst); }
    // Lock held, from `cpu`. Returns when no other vCPU is running; the lock keeps it so until end_standstill().
    void begin_standstill(Cpu&);
    void end_standstill() { m_standstill.store(false, std::memory_order_seq_cst); }
    // Drops everything, unless another vCPU will return to code from a device: then false, and try again without the lock.
    bool try_drop_everything(Cpu&);
    // --- sleeping virtual CPUs that a store to a line of memory wakes (monitor.hpp) ---
    // Takes the lock. From `cpu`, which does not run: from now on a store sets its line_stored.
    void begin_line_watch(Cpu&, u8 const* line);
    void end_line_watch(Cpu& cpu) { cpu.watched_line.store(nullptr, std::memory_order_relaxed); }
    // After a store, and after translated_from(): is tell_line_watchers() to hear of it?
    bool line_watched_in(u64 physical) const
    {
        PageInfo const* const info = page(physical);
        return info && line_watched(*info);
    }
    void tell_line_watchers(u64 physical, u64 size);
    // Guest memory changed: blocks made from it are dropped. True when there were any.
    bool invalidate(u64 physical, u64 size);
    // --- hot code ---
    // Which code is worth a careful translation; `always` is for tests.
    enum class Heat : u8 { never, by_samples, always };
    void set_heat(Heat heat) { m_heat = heat; }
    Heat heat() const { return m_heat; }
    // Translations are read again, and must leave alone what is not theirs: for tests.
    void set_checks_translations(bool checks) { m_checks_translations = checks; }
    bool checks_translations() const { return m_checks_translations; }
    // From now on this code is translated as hot, beginning with the next time.
    void make_hot(Block&);
    bool is_hot(u64 physical, u64 rip, ModeBits mode) const { return m_heat == Heat::always || m_hot.test(hot_bit(physical, rip, mode)); }
    // This instruction's accesses stray from page to page, so that a slot for a run of pages may hold them; or they wander, and no slot does.
    void note_straying(Block&, u64 physical);
    void note_wandering(Block&, u64 physical);
    bool strays(u64 physical) const { return m_straying.test(hint_bit(physical)); }
    bool wanders(u64 physical) const { return m_wandering.test(hint_bit(physical)); }
    u16 take_site_slot(TlbIndex, SiteKind);
    u16 take_run_slot(TlbIndex, SiteKind);
    // Points an edge's jump at a block, or back at its stub.
    void link(Edge&, Block&, u8 const* entry);
    void unlink(Edge&);

    // Space for the next block; nullptr when the cache must be dropped first.
    u8* code_space(u64 wanted);
    void commit_code(u8* end);
    u8* executable(u8* writable) const { return m_executable.data() + (writable - m_writable.data()); }
    u8* writable(u8* executable) const { return m_writable.data() + (executable - m_executable.data()); }
    bool contains(u8 const* executable) const;
    // The block whose code holds this executable address.
    Block* block_at(u8 const* executable) const;
    // Everything allocated or generated so far survives drop_everything(): the thunks.
    void keep_code_so_far() { m_code_floor = m_code_next; }

    // Records; nullptr when full. Zero-initialised by their constructors.
    template<typename T>
    T* make()
    {
        void* const place = allocate(sizeof(T) * 1, alignof(T));
        return place ? new (place) T() : nullptr;
    }
    void* allocate(u64 size, u64 alignment);
    bool has_room() const;

    CacheStatistics& statistics() { return m_statistics; }
    u64 code_used() const { return static_cast<u64>(m_code_next - m_code_floor); }
    u64 records_used() const { return m_record_next; }
    u8 const* code_start() const { return m_executable.data(); } // of the executable view, as is
    u8 const* code_end() const { return executable(m_code_next); }
    std::vector<Cpu*> const& cpus() const { return m_cpus; }
    Profiler* profiler() const { return m_profiler; }

private:
    static constexpr unsigned hash_bits = 16;
    static constexpr unsigned hash_size = 1 << hash_bits;
    static constexpr unsigned changes_to_stick = 8;
    static constexpr unsigned hint_bits = 16;
    static constexpr unsigned patience_with_stores = 256; // which cost about as much as to have the others stand still

    CodeCache(GuestMemory& memory, Profiler* profiler) : m_memory(memory), m_profiler(profiler) {}
    Result<void> map();
    static u64 lines(PageInfo const& info) { return __atomic_load_n(&info.lines, __ATOMIC_ACQUIRE); }
    static bool sticky(PageInfo const& info) { return __atomic_load_n(&info.sticky, __ATOMIC_ACQUIRE); }
    static bool line_watched(PageInfo const& info) { return __atomic_load_n(&info.line_watched, __ATOMIC_SEQ_CST); }
    bool tell_line_watchers_in_page(u8 const* from, u8 const* to);
    void drop_everything();
    static unsigned hash(u64 physical, u64 rip) { return static_cast<unsigned>((physical ^ rip << 20) * 0x9e3779b97f4a7c15 >> (64 - hash_bits)); } // Knuth's multiplicative hash
    static unsigned hot_bit(u64 physical, u64 rip, ModeBits mode) { return static_cast<unsigned>((physical ^ rip << 20 ^ u64 { mode } << 40) * 0x9e3779b97f4a7c15 >> (64 - hint_bits)); }
    static unsigned hint_bit(u64 physical) { return static_cast<unsigned>(physical * 0x9e3779b97f4a7c15 >> (64 - hint_bits)); }
    static u16 take_slot(SiteClass const&, u16& next);
    PageInfo* page(u64 physical) const;
    bool invalidate_page(u64 physical, u64 lines);
    void kill(Block&);
    void drop_changed(Block&);
    void remove_from_hash(Block&);
    void remove_from_page(Block&);
    void recompute_lines(u64 physical);
    void forget_writable(u8 const* host_page);

    GuestMemory& m_memory;
    Profiler* const m_profiler;
    CacheLock m_lock;
    std::atomic<bool> m_standstill { false };
    std::vector<Cpu*> m_cpus;
    host::Mapping m_writable, m_executable; // the code, twice
    host::Mapping m_records, m_page_memory;
    u8* m_code_next = nullptr;
    u8* m_code_floor = nullptr;
    u64 m_huge_code = 0; // bytes of the code that lie in huge pages, if the host has them
    u64 m_record_next = 0;
    PageInfo* m_pages = nullptr; // one per page of RAM, sparse, in m_page_memory
    std::vector<Block*> m_hash;
    std::vector<Block*> m_by_code; // in the order of their code
#ifdef ANYHYVE_THREAD_SANITIZER
    Heat m_heat = Heat::always; // it holds back the signals that bring samples
#else
    Heat m_heat = Heat::by_samples;
#endif
    bool m_checks_translations = false;
    // By hash, so that now and then the wrong code gets the benefit of a hint; nothing but speed depends on them.
    std::bitset<1 << hint_bits> m_hot, m_straying, m_wandering;
    u16 m_next_slot[tlb_index_count][4] {};
    u16 m_next_run_slot[tlb_index_count][2] {};
    CacheStatistics m_statistics;
};

} // namespace anyhyve::soft
