// bhyvectl's work: what is set first, then what is shown, in the order in which bhyvectl(8) lists it.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "tools/item_report.hpp"
#include "tools/machine_access.hpp"
#include "tools/option_table.hpp"
#include "vmm/vm_directory.hpp"

namespace anyhyve::tools {

class Bhyvectl {
public:
    // Options by long name; of one given twice the last counts.
    explicit Bhyvectl(CommandLine const& line);

    Result<void> run();

private:
    bool has(std::string const& option) const { return m_options.contains(option); }
    std::string const& value(std::string const& option) const { return m_options.at(option); }
    Result<u64> number(std::string const& option) const;

    Result<void> check_options() const;
    Result<void> create(VmDirectory&);
    Result<void> destroy(VmDirectory&);
    Result<void> set_memory(Vm&);

    Result<void> write_all();
    Result<void> write_registers();
    Result<void> write_descriptors();
    Result<void> write_clock();
    Result<void> write_x2apic();
    Result<void> signal_machine();

    Result<void> show_all();
    Result<void> show_registers();
    Result<void> show_memory();
    Result<void> show_page(u64 address);
    Result<void> show_processors();
    Result<void> show_clock();
    Result<void> show_capability();
    Result<void> show_statistics();
    Result<void> show_process();
    Result<void> show_profile();
    bool shows(std::string const& item) const { return m_everything || has("get-" + item); }

    std::map<std::string, std::string> m_options;
    unsigned m_vcpu = 0;
    bool m_everything = false; // --get-all
    std::unique_ptr<Vm> m_vm;
    std::unique_ptr<MachineAccess> m_machine;
    std::optional<ItemReport> m_report;
};

} // namespace anyhyve::tools
