// Hardware task switches: through a TSS or task gate by JMP, CALL, IRET and interrupts.
// Source: Intel SDM vol. 3A chapter 7. Not in long mode.
#pragma once

#include "engine/soft/segmentation.hpp"

namespace anyhyve::soft {

enum class TaskSwitchCause : u8 { jump, call, interrupt_return, interrupt };

struct TaskSwitch {
    TaskSwitchCause cause = TaskSwitchCause::jump;
    u64 saved_rip = 0;   // where the old task goes on
    u64 saved_flags = 0; // its EFLAGS
    bool has_error_code = false; // to push on the new task's stack
    u32 error_code = 0;
};

// The TSS descriptor a task switch goes to, with every check but those of privilege (SDM vol. 3A 7.3 steps 1 to 4).
Outcome fetch_task(Cpu&, u16 selector, TaskSwitchCause, Descriptor&);
// The switch: `jump` into the new task; `fault` before it (nothing has changed), or in the new task (SDM table 7-1), which is then current.
Outcome switch_task(Cpu&, Descriptor& task, TaskSwitch const&);

} // namespace anyhyve::soft
