# Interrupts: the two 8259s, the 8254's timer, the local APIC's self interrupts and priorities, shadows of STI and MOV SS, NMI.
# Spec: Intel SDM vol. 3A chapters 6 and 10; Intel 8259A and 8254 data sheets.
    .include "common.inc"

    .set APIC, 0xfee00000
    .data
    .align 4
count:  .fill 256, 4, 0         # deliveries, by vector
order:  .fill 16, 1, 0          # vectors in the order in which they came
next:   .long 0
    .text

# Notes the vector that stands on the stack.
note:
    push eax
    push ebx
    mov eax, [esp + 12]
    inc dword ptr count[eax * 4]
    mov ebx, [next]
    mov order[ebx], al
    inc dword ptr [next]
    pop ebx
    pop eax
    ret

    .macro handler name, number, end:vararg
\name:
    push \number
    call note
    add esp, 4
    \end
    iretd
    .endm
    .macro end_of_pic
    push eax
    mov al, 0x20
    out 0x20, al
    pop eax
    .endm
    .macro end_of_both_pics
    push eax
    mov al, 0x20
    out 0xa0, al
    out 0x20, al
    pop eax
    .endm
    .macro end_of_apic
    mov dword ptr ds:[APIC + 0xb0], 0
    .endm
    handler on_timer, 0x20, end_of_pic
    handler on_clock, 0x28, end_of_both_pics
    handler on_50, 0x50, end_of_apic
    handler on_60, 0x60, end_of_apic
    handler on_soft, 0x70
    handler on_nmi, 2

    .macro gate number, label
    mov eax, offset \label
    mov ecx, \number
    mov edx, 0x8e00
    call set_gate
    .endm

    .macro show_count name, number
    show "\name", count[\number * 4]
    .endm

# Channel 0, mode 0: one edge after `ax` ticks of 838 ns.
start_timer:
    push eax
    mov al, 0x30
    out 0x43, al
    mov al, [esp]
    out 0x40, al
    mov al, [esp + 1]
    out 0x40, al
    pop eax
    ret

# IRR of the first 8259.
read_requests:
    mov al, 0x0a
    out 0x20, al
    in al, 0x20
    movzx eax, al
    ret

wait_for_request:
    call read_requests
    test al, 1
    jz wait_for_request
    ret

main:
    gate 0x20, on_timer
    gate 0x28, on_clock
    gate 0x50, on_50
    gate 0x60, on_60
    gate 0x70, on_soft
    gate 2, on_nmi
    # The 8259s: vectors 20 and 28, cascade at 2, all masked.
    mov al, 0x11
    out 0x20, al
    out 0xa0, al
    mov al, 0x20
    out 0x21, al
    mov al, 0x28
    out 0xa1, al
    mov al, 4
    out 0x21, al
    mov al, 2
    out 0xa1, al
    mov al, 1
    out 0x21, al
    out 0xa1, al
    mov al, 0xff
    out 0x21, al
    out 0xa1, al
    # The local APIC: on, LINT0 is the 8259's.
    mov dword ptr ds:[APIC + 0xf0], 0x1ff
    mov dword ptr ds:[APIC + 0x350], 0x700
    mov dword ptr ds:[APIC + 0x360], 0x400

    # HLT ends by the timer
    mov al, 0xfe
    out 0x21, al
    mov ax, 1000
    call start_timer
    sti
    hlt
    cli
    show_count "timer after HLT", 0x20

    # pending, with interrupts off: STI lets one instruction through
    mov ax, 100
    call start_timer
    call wait_for_request
    show "IRR", eax
    sti
    cli
    show_count "behind STI CLI", 0x20
    xor ebx, ebx
    sti
    mov ebx, count[0x20 * 4]
    mov edx, count[0x20 * 4]
    cli
    show "first instruction behind STI", ebx
    show "second instruction behind STI", edx

    # MOV SS does the same
    mov ax, 100
    call start_timer
    call wait_for_request
    pushfd
    or dword ptr [esp], 0x200
    mov ecx, ss
    popfd                       # no shadow: taken here
    mov ss, cx
    mov ebx, count[0x20 * 4]
    cli
    show "behind POPF", ebx

    # masked
    mov al, 0xff
    out 0x21, al
    mov ax, 100
    call start_timer
    call wait_for_request
    sti
    nop
    nop
    cli
    show_count "masked", 0x20
    mov al, 0xfe
    out 0x21, al
    sti
    nop
    nop
    cli
    show_count "unmasked", 0x20

    # software interrupts do not look at IF, and leave the 8259 alone
    int 0x70
    show_count "INT 70", 0x70

    # self interrupts of the local APIC: the higher vector first
    mov dword ptr ds:[APIC + 0x300], 0x00040050
    mov dword ptr ds:[APIC + 0x300], 0x00040060
    show "APIC IRR 40-5F", ds:[APIC + 0x220]
    mov dword ptr [next], 0
    sti
    nop
    nop
    cli
    movzx eax, word ptr [order]
    show "order", eax

    # the task priority holds vector 50 back, not 60
    mov dword ptr ds:[APIC + 0x80], 0x50
    mov dword ptr ds:[APIC + 0x300], 0x00040050
    mov dword ptr ds:[APIC + 0x300], 0x00040060
    sti
    nop
    nop
    cli
    show_count "vector 60", 0x60
    show_count "vector 50, priority 5", 0x50
    show "processor priority", ds:[APIC + 0xa0]
    mov dword ptr ds:[APIC + 0x80], 0
    sti
    nop
    nop
    cli
    show_count "vector 50, priority 0", 0x50

    # an NMI to itself is taken with interrupts off
    mov eax, ds:[APIC + 0x20]
    and eax, 0xff000000
    mov ds:[APIC + 0x310], eax
    mov dword ptr ds:[APIC + 0x300], 0x00004400
    mov ecx, 1000
1:  loop 1b
    show_count "NMI", 2

    # the clock's periodic interrupt comes through the second 8259
    mov al, 0xfa
    out 0x21, al
    mov al, 0xfe
    out 0xa1, al
    mov al, 0x8b
    out 0x70, al
    in al, 0x71
    mov bl, al
    mov al, 0x8a
    out 0x70, al
    in al, 0x71
    and al, 0xf0
    or al, 0x06                 # 1024 Hz
    mov bh, al
    mov al, 0x8a
    out 0x70, al
    mov al, bh
    out 0x71, al
    mov al, 0x8c
    out 0x70, al
    in al, 0x71
    mov al, 0x8b
    out 0x70, al
    mov al, bl
    or al, 0x40
    out 0x71, al
    sti
    hlt
    cli
    mov al, 0x8b
    out 0x70, al
    mov al, bl
    out 0x71, al
    mov al, 0x0c
    out 0x70, al
    in al, 0x71
    and al, 0xc0
    movzx ebx, al
    show "clock after HLT", count[0x28 * 4]
    show "register C, IRQF and PF", ebx
    ret
