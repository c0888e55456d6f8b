# Long mode: canonical addresses, page faults, pages without execution, IST and stack alignment, SYSCALL and SYSRET, SWAPGS, compatibility mode,
# and instructions that 64-bit code has lost. What happens is noted in 64-bit code and printed behind it.
# Spec: Intel SDM vol. 3A 4.5, 5.8.8, 6.14; vol. 2.
    .include "common.inc"
    .include "long_mode.inc"

    .data
far_32: .long compatible, 0x08

    .text
    .code64
# An exception in 64-bit code: three notes (vector, error code, RIP from `begin`), and on at resume_at.
caught64:
    pop rax
    mov [rdi], rax
    pop rax
    mov [rdi + 8], rax
    mov rax, [rsp]
    mov ebx, [begin]
    sub rax, rbx
    mov [rdi + 16], rax
    lea rbx, [rsp + 40]         # behind the frame: the stack as it was switched to
    add rdi, 24
    mov r15, [rsp + 24]         # RSP of the interrupted code
    mov esp, [resume_esp]
    mov eax, [resume_at]
    jmp rax
back64:                         # gate 30: out of ring 3
    mov esp, [resume_esp]
    mov eax, [resume_at]
    jmp rax

    .macro try64 instruction:vararg
    mov dword ptr [resume_at], offset 99f
    mov [resume_esp], esp
    mov dword ptr [begin], offset 98f
98: \instruction
    mov qword ptr [rdi], 255
    mov qword ptr [rdi + 8], 0
    mov qword ptr [rdi + 16], 0
    add rdi, 24
99:
    .endm

long_code:
    begin_long_code
    mov rsi, 0x0000800000000000
    try64 mov rax, [rsi]
    try64 mov [rsi - 4], rax
    mov rbp, rsi
    try64 mov rax, [rbp + 0]
    try64 jmp rsi
    mov rsi, 0xffff800000001000
    try64 mov rax, [rsi]
    mov rax, cr2
    shr rax, 32
    note64 rax
    try64 inc dword ptr [rsi]
    mov rsi, 0x00600000         # mapped, without execution
    mov byte ptr [rsi], 0xc3
    try64 call rsi
    try64 .byte 0x37            # AAA
    try64 .byte 0x06            # PUSH ES
    try64 .byte 0xea, 0, 0, 0, 0, 0x18, 0
    try64 .byte 0xce            # INTO
    # operands of 32 bits clear the upper half, of 16 bits do not
    mov rax, -1
    mov eax, eax
    mov rdx, rax
    mov rax, -1
    xor ax, ax
    mov rcx, rax
    note64 rdx
    note64 rcx
    # the stack is aligned to 16 before the frame is pushed; RSP is saved as it was
    mov rsp, offset long_stack - 0x103
    try64 ud2
    mov rsp, offset long_stack
    sub rbx, offset long_stack
    note64 rbx
    sub r15, offset long_stack
    note64 r15
    # IST 1
    mov byte ptr [idt64 + 6 * 16 + 4], 1
    try64 ud2
    mov byte ptr [idt64 + 6 * 16 + 4], 0
    sub rbx, offset ist_stack
    note64 rbx
    # IRETQ to an address that is not canonical
    mov rax, 0x0000800000000000
    mov r8, rsp
    push 0
    push r8
    push 2
    push 0x18
    push rax
    try64 iretq
    mov rsp, r8
    # CR8 and the task priority
    mov eax, 9
    mov cr8, rax
    mov rax, cr8
    note64 rax
    xor eax, eax
    mov cr8, rax
    # SWAPGS
    mov ecx, 0xc0000101
    mov eax, 0x1111
    mov edx, 0xffff8000
    wrmsr
    mov ecx, 0xc0000102
    mov eax, 0x2222
    mov edx, 0
    wrmsr
    swapgs
    mov ecx, 0xc0000101
    rdmsr
    note64 rax
    mov ecx, 0xc0000102
    rdmsr
    note64 rdx
    mov ecx, 0xc0000102
    mov edx, 0x00008000         # not canonical
    try64 wrmsr

    # ring 3 by SYSRET, and SYSCALL from there
    mov ecx, 0xc0000081
    xor eax, eax
    mov edx, 0x002b0018
    wrmsr
    mov ecx, 0xc0000082
    mov eax, offset system_call
    xor edx, edx
    wrmsr
    mov ecx, 0xc0000084
    mov eax, 0x500              # clears TF and DF
    xor edx, edx
    wrmsr
    mov dword ptr [resume_at], offset user_end
    mov [resume_esp], esp
    mov rcx, offset user_code
    mov r11, 0x3002
    sysretq
user_code:
    mov r12, cs
    mov r13, ss
    pushfq
    pop r14
    std
    syscall
after_call:
    pushfq
    pop r9
    cld
    int 0x30
system_call:
    mov r8, cs
    mov r10, ss
    pushfq
    pop rbp
    mov rbx, rcx
    sub rbx, offset after_call
    mov rdx, r11
    sysretq
user_end:
    note64 r12
    note64 r13
    note64 r14
    note64 r8
    note64 r10
    note64 rbp
    note64 rbx
    note64 rdx
    note64 r9
    # from ring 3: the supervisor's page, and HLT
    mov dword ptr [resume_at], offset 1f
    mov [resume_esp], esp
    mov dword ptr [begin], offset user_fault
    mov rcx, offset user_fault
    mov r11, 2
    mov esi, 0x00800000
    sysretq
user_fault:
    mov eax, [rsi]
1:  mov dword ptr [resume_at], offset 1f
    mov [resume_esp], esp
    mov dword ptr [begin], offset user_halt
    mov rcx, offset user_halt
    mov r11, 2
    sysretq
user_halt:
    hlt
1:
    # compatibility mode: one-byte INC, 32-bit addresses, and back
    mov rax, 0x1122334455667788
    mov ebx, esp
    jmp fword ptr [far_32]
    .code32
compatible:
    inc eax
    mov edx, eax
    mov ecx, cs
    jmp 0x18, offset compatible_end
    .code64
compatible_end:
    note64 rdx
    note64 rcx
    jmp fword ptr [far_back]

    .code32
main:
    call set_long_tables
    mov dword ptr page_directory[3 * 8 + 4], 0x80000000 # at 6 MiB: no execution
    mov dword ptr page_directory[4 * 8], 0x00800083     # at 8 MiB: the supervisor's
    call enter_long_mode
    .macro told name
    say "\name: vector "
    call put_note
    say " error "
    call put_note
    say " after "
    call put_note
    say "\n"
    .endm
    told "load, not canonical"
    told "store across the end"
    told "load by RBP"
    told "jump, not canonical"
    told "load, upper half, no page"
    value64 "upper half of CR2"
    told "INC, no page"
    told "call into a page without execution"
    told "AAA"
    told "PUSH ES"
    told "JMP far, direct"
    told "INTO"
    value64 "upper half after 32 bits"
    value64 "upper half after 16 bits"
    told "UD2 on an odd stack"
    value64 "frame's top"
    value64 "RSP in it"
    told "UD2 through IST 1"
    value64 "frame's top"
    told "IRETQ, not canonical"
    value64 "CR8"
    value64 "GS base after SWAPGS"
    value64 "kernel GS base, upper half"
    told "WRMSR, not canonical"
    value64 "CS by SYSRET"
    value64 "SS by SYSRET"
    value64 "flags by SYSRET"
    value64 "CS by SYSCALL"
    value64 "SS by SYSCALL"
    value64 "flags by SYSCALL"
    value64 "RCX"
    value64 "R11"
    value64 "flags back"
    told "ring 3 reads the supervisor's page"
    told "ring 3 halts"
    value64 "compatibility mode, EAX"
    value64 "its CS"
    ret
