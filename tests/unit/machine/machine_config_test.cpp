// Configuration variables as the values of a machine.
#include "machine/machine_config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace anyhyve;
using namespace anyhyve::machine;
using testing::HasSubstr;

namespace {

Result<MachineConfig> read(std::vector<std::string> const& settings)
{
    ConfigTree tree;
    for (auto const& setting : settings)
        EXPECT_TRUE(tree.assign(setting).ok()) << setting;
    return MachineConfig::read(tree);
}

std::string refusal_of(std::vector<std::string> const& settings)
{
    auto const config = read(settings);
    EXPECT_FALSE(config.ok());
    return config.ok() ? "" : config.error().message();
}

TEST(MachineConfig, DefaultsOfBhyve)
{
    auto const config = read({ "name=guest" });
    ASSERT_TRUE(config.ok());
    EXPECT_EQ(config.value().memory_size, 256 * MiB);
    EXPECT_EQ(config.value().topology.cpus, 1u);
    EXPECT_TRUE(config.value().strict_msr);
    EXPECT_TRUE(config.value().mp_table);
    EXPECT_TRUE(config.value().rtc_local_time);
    EXPECT_TRUE(config.value().restart_on_reset);
    EXPECT_FALSE(config.value().boot.wanted());
}

TEST(MachineConfig, DevicesInTheOrderOfTheirAddresses)
{
    auto const config = read({ "pci.0.10.0.device=virtio-rnd", "pci.0.2.0.device=virtio-blk", "pci.0.2.0.path=/disk", "pci.0.0.0.device=hostbridge" });
    ASSERT_TRUE(config.ok()) << config.error().message();
    ASSERT_EQ(config.value().pci_devices.size(), 3u);
    EXPECT_EQ(config.value().pci_devices[1].device, "virtio-blk");
    EXPECT_EQ(config.value().pci_devices[1].options.text("path"), "/disk");
    EXPECT_EQ(config.value().pci_devices[2].address.slot, 10);
}

TEST(MachineConfig, NestedOptionsOfADevice)
{
    auto const config = read({ "pci.0.0.0.device=hostbridge", "pci.0.0.0.pcireg.vendor=0x1234" });
    ASSERT_TRUE(config.ok());
    EXPECT_EQ(config.value().pci_devices[0].options.text("pcireg.vendor"), "0x1234");
}

TEST(MachineConfig, WrongDevicesAreNamed)
{
    EXPECT_EQ(refusal_of({ "pci.0.3.0.device=nonsense" }), "pci slot 3:0: unknown device \"nonsense\"");
    EXPECT_EQ(refusal_of({ "pci.0.3.0.path=/x" }), "pci.0.3.0.device is missing");
    EXPECT_THAT(refusal_of({ "pci.0.32.0.device=lpc" }), HasSubstr("slots 0-31"));
}

TEST(MachineConfig, ComPorts)
{
    auto const config = read({ "lpc.com1.path=stdio", "lpc.com3.tcp=127.0.0.1:7000" });
    ASSERT_TRUE(config.ok());
    ASSERT_EQ(config.value().com_ports.size(), 2u);
    EXPECT_EQ(config.value().com_ports[0].path, "stdio");
    EXPECT_EQ(config.value().com_ports[1].number, 3u);
    EXPECT_EQ(config.value().com_ports[1].tcp, "127.0.0.1:7000");
}

TEST(MachineConfig, VariablesOfOtherVariables)
{
    auto const config = read({ "name=guest", "lpc.com1.path=file=/log/%(name)" });
    ASSERT_TRUE(config.ok());
    EXPECT_EQ(config.value().com_ports[0].path, "file=/log/guest");
}

TEST(MachineConfig, HostCpus)
{
    auto const config = read({ "cpus=2", "vcpu.1.cpuset=0-1" });
    ASSERT_TRUE(config.ok());
    EXPECT_THAT(config.value().host_cpus.at(1), testing::ElementsAre(0, 1));
}

TEST(MachineConfig, AbsentFunctionsAreRefused)
{
    EXPECT_EQ(refusal_of({ "gdb.port=1234" }), "gdb.port: the debug server is not part of this version");
    EXPECT_THAT(refusal_of({ "domains.0.size=1G" }), HasSubstr("NUMA"));
    EXPECT_THAT(refusal_of({ "lpc.bootrom=/rom" }), HasSubstr("firmware"));
}

TEST(MachineConfig, ABootWithoutKernelIsRefused)
{
    EXPECT_EQ(refusal_of({ "boot.initrd=/i" }), "boot.kernel is missing");
}

TEST(MachineConfig, ModulesAreNumbered)
{
    auto const config = read({ "boot.kernel=/k", "boot.module.0=/a x", "boot.module.1=/b", "boot.module.3=/c" });
    ASSERT_TRUE(config.ok());
    EXPECT_THAT(config.value().boot.modules, testing::ElementsAre("/a x", "/b"));
}

TEST(MachineConfig, UnknownVariablesAreLeftAlone)
{
    EXPECT_TRUE(read({ "no.such.variable=1" }).ok());
}

} // namespace
