// bhyve's flags as configuration variables.
#include "tools/bhyve_options.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace anyhyve;
using namespace anyhyve::tools;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

namespace {

ParsedBhyveCommand parse(std::vector<std::string> words)
{
    words.insert(words.begin(), "bhyve");
    std::vector<char*> arguments;
    for (auto& word : words)
        arguments.push_back(word.data());
    arguments.push_back(nullptr);
    return parse_bhyve_command(static_cast<int>(words.size()), arguments.data());
}

std::string refusal_of(std::vector<std::string> words)
{
    auto const parsed = parse(std::move(words));
    EXPECT_TRUE(parsed.refusal);
    return parsed.refusal ? parsed.refusal->message : "";
}

TEST(BhyveOptions, FlagsBecomeVariables)
{
    auto const parsed = parse({ "-A", "-H", "-m", "512M", "-u", "guest" });
    ASSERT_FALSE(parsed.refusal);
    EXPECT_EQ(parsed.command.variables.dump(),
        "acpi_tables=true\nmemory.size=512M\nname=guest\nrtc.use_localtime=false\nx86.vmexit_on_hlt=true\n");
}

TEST(BhyveOptions, ClustersAndAttachedArguments)
{
    auto const parsed = parse({ "-AHPc2", "-m256", "guest" });
    ASSERT_FALSE(parsed.refusal);
    EXPECT_EQ(parsed.command.variables.raw("cpus"), "2");
    EXPECT_EQ(parsed.command.variables.raw("memory.size"), "256");
}

TEST(BhyveOptions, TheNameMayComeFromAVariable)
{
    EXPECT_FALSE(parse({ "-o", "name=guest" }).refusal);
    EXPECT_EQ(refusal_of({ "-H" }), "the name of a virtual machine is missing");
    EXPECT_EQ(parse({ "-H" }).refusal->exit_code, exit_usage);
    EXPECT_EQ(parse({ "one", "two" }).refusal->exit_code, exit_usage);
}

TEST(BhyveOptions, TopologyByParts)
{
    auto const parts = parse_cpu_option("4,sockets=2,cores=2");
    ASSERT_TRUE(parts.ok());
    EXPECT_THAT(parts.value(), ElementsAre(Pair("cpus", "4"), Pair("sockets", "2"), Pair("cores", "2")));
    EXPECT_THAT(parse_cpu_option("").value(), ElementsAre(Pair("cpus", "1")));
    EXPECT_FALSE(parse_cpu_option("0").ok());
    EXPECT_FALSE(parse_cpu_option("two").ok());
    EXPECT_FALSE(parse_cpu_option("4,dies=2").ok());
}

TEST(BhyveOptions, SlotForms)
{
    EXPECT_THAT(parse_slot_option("3,hostbridge").value(), ElementsAre(Pair("pci.0.3.0.device", "hostbridge")));
    EXPECT_THAT(parse_slot_option("3:1,hostbridge").value(), ElementsAre(Pair("pci.0.3.1.device", "hostbridge")));
    EXPECT_THAT(parse_slot_option("2:3:1,hostbridge").value(), ElementsAre(Pair("pci.2.3.1.device", "hostbridge")));
    EXPECT_FALSE(parse_slot_option("32,hostbridge").ok());
    EXPECT_FALSE(parse_slot_option("0:8,hostbridge").ok());
    EXPECT_FALSE(parse_slot_option("x,hostbridge").ok());
}

TEST(BhyveOptions, DeviceOptionsBecomeVariables)
{
    auto const disk = parse_slot_option("4,virtio-blk,/a/disk.img,ro,ser=one");
    ASSERT_TRUE(disk.ok());
    EXPECT_THAT(disk.value(),
        testing::UnorderedElementsAre(Pair("pci.0.4.0.device", "virtio-blk"), Pair("pci.0.4.0.path", "/a/disk.img"), Pair("pci.0.4.0.ro", "true"),
            Pair("pci.0.4.0.ser", "one")));
}

TEST(BhyveOptions, WhatLibvirtLooksFor)
{
    EXPECT_EQ(refusal_of({ "-s", "0,ahcix" }), "pci slot 0:0: unknown device \"ahcix\"");
    EXPECT_EQ(refusal_of({ "-s", "0,fbuf,password=" }), "Invalid fbuf emulation \"password\"");
    EXPECT_EQ(refusal_of({ "-l", "bootrom" }), "invalid lpc device configuration 'bootrom'");
}

TEST(BhyveOptions, ASlotIsUsedOnce)
{
    EXPECT_EQ(refusal_of({ "-s", "3,hostbridge", "-s", "0:3:0,lpc", "guest" }), "pci slot 0:3:0 already occupied");
}

TEST(BhyveOptions, ASlotNeedsADevice)
{
    EXPECT_EQ(refusal_of({ "-s", "3", "guest" }), "-s 3: the name of a device is missing");
    EXPECT_EQ(refusal_of({ "-s", "3,", "guest" }), "-s 3,: the name of a device is missing");
}

TEST(BhyveOptions, ComPortsInEitherCase)
{
    EXPECT_THAT(parse_lpc_option("COM1,stdio").value(), ElementsAre(Pair("lpc.com1.path", "stdio")));
    EXPECT_THAT(parse_lpc_option("com2,tcp=127.0.0.1:7000").value(), ElementsAre(Pair("lpc.com2.tcp", "127.0.0.1:7000")));
    EXPECT_FALSE(parse_lpc_option("com1").ok());
    EXPECT_FALSE(parse_lpc_option("com5,stdio").ok());
}

TEST(BhyveOptions, TestDevicesTakeNoOptions)
{
    EXPECT_THAT(parse_lpc_option("pc-testdev").value(), ElementsAre(Pair("lpc.pc-testdev", "true")));
    EXPECT_THAT(parse_lpc_option("debug-exit").value(), ElementsAre(Pair("lpc.debug-exit", "true")));
    EXPECT_FALSE(parse_lpc_option("debug-exit,0xf4").ok());
}

TEST(BhyveOptions, MultibootKernelsHaveModules)
{
    auto const boot = parse_boot_option("multiboot,kernel=/k,cmdline=a,b=c d,module=/m one,two,module=/n");
    ASSERT_TRUE(boot.ok());
    EXPECT_THAT(boot.value(),
        ElementsAre(Pair("boot.protocol", "multiboot"), Pair("boot.entry", "multiboot"), Pair("boot.kernel", "/k"), Pair("boot.cmdline", "a,b=c d"),
            Pair("boot.module.0", "/m one,two"), Pair("boot.module.1", "/n")));
    EXPECT_THAT(parse_boot_option("multiboot,kernel=/k,cmdline=").value(),
        ElementsAre(Pair("boot.protocol", "multiboot"), Pair("boot.entry", "multiboot"), Pair("boot.kernel", "/k")));
    for (char const* text : { "multiboot", "multiboot,cmdline=a", "multiboot,kernel=", "multiboot,kernal=/k", "multiboot,module=/k" })
        EXPECT_FALSE(parse_boot_option(text).ok()) << text;
}

TEST(BhyveOptions, TheCommandLineTakesTheRest)
{
    auto const boot = parse_boot_option("linux,kernel=/k,initrd=/i,entry=32,cmdline=console=ttyS0,115200 a=b,c");
    ASSERT_TRUE(boot.ok());
    EXPECT_THAT(boot.value(),
        ElementsAre(Pair("boot.protocol", "linux"), Pair("boot.kernel", "/k"), Pair("boot.initrd", "/i"), Pair("boot.entry", "32"),
            Pair("boot.cmdline", "console=ttyS0,115200 a=b,c")));
}

TEST(BhyveOptions, PercentSignsOfTheCommandLineStandForThemselves)
{
    auto const parsed = parse({ "-b", "linux,kernel=/k,cmdline=a=%(name) b=100%", "guest" });
    ASSERT_FALSE(parsed.refusal);
    EXPECT_EQ(parsed.command.variables.value("boot.cmdline").value(), "a=%(name) b=100%");
}

TEST(BhyveOptions, TheLastWordOnAVariableWins)
{
    auto const parsed = parse({ "-m", "512M", "-o", "memory.size=1G", "guest" });
    ASSERT_FALSE(parsed.refusal);
    EXPECT_EQ(parsed.command.variables.raw("memory.size"), "1G");
}

TEST(BhyveOptions, ABootNeedsAKernel)
{
    EXPECT_FALSE(parse_boot_option("linux").ok());
    EXPECT_FALSE(parse_boot_option("linux,initrd=/i").ok());
    EXPECT_FALSE(parse_boot_option("linux,kernal=/k").ok());
    EXPECT_FALSE(parse_boot_option("windows,kernel=/k").ok());
}

TEST(BhyveOptions, PinsOneOrARange)
{
    EXPECT_THAT(parse_pin_option("1:3").value(), ElementsAre(Pair("vcpu.1.cpuset", "3")));
    EXPECT_THAT(parse_pin_option("0-1:4-5").value(), ElementsAre(Pair("vcpu.0.cpuset", "4"), Pair("vcpu.1.cpuset", "5")));
    EXPECT_THAT(parse_pin_option("0-1:4").value(), ElementsAre(Pair("vcpu.0.cpuset", "4"), Pair("vcpu.1.cpuset", "4")));
    EXPECT_FALSE(parse_pin_option("0-2:4-5").ok());
    EXPECT_FALSE(parse_pin_option("0").ok());
}

TEST(BhyveOptions, AbsentFunctionsAreRefusedByName)
{
    EXPECT_THAT(refusal_of({ "-G", "1234", "guest" }), HasSubstr("-G 1234: the debug server is not part of this version"));
    EXPECT_THAT(refusal_of({ "-r", "file", "guest" }), HasSubstr("not part of this version"));
    EXPECT_EQ(parse({ "-K", "de", "guest" }).refusal->exit_code, exit_error);
}

TEST(BhyveOptions, HelpBeatsWhatFollows)
{
    EXPECT_EQ(parse({ "-h", "-Z" }).refusal.has_value(), true); // an unknown option is an error all the same
    EXPECT_EQ(parse({ "-h" }).command.action, BhyveCommand::Action::help);
    EXPECT_EQ(parse({ "-s", "help" }).command.action, BhyveCommand::Action::list_pci_devices);
    EXPECT_EQ(parse({ "--doctor", "--json" }).command.action, BhyveCommand::Action::doctor);
    EXPECT_TRUE(parse({ "--doctor", "--json" }).command.json);
}

TEST(BhyveOptions, VariablesNeedAValue)
{
    EXPECT_FALSE(parse({ "-o", "a=b", "guest" }).refusal);
    EXPECT_TRUE(parse({ "-o", "a=", "guest" }).refusal);
    EXPECT_TRUE(parse({ "-o", "a", "guest" }).refusal);
}

} // namespace
