# Hardware tasks: switches by CALL, IRET, JMP and interrupt through a task gate; busy bits, back links, NT, TS, and what is refused.
# Spec: Intel SDM vol. 3A chapter 8 (task management; 7 in older editions).
    .include "common.inc"

    .bss
    .align 16
other_stack_bottom: .space 2048
other_stack:
    .data
    .align 16
other:                          # the other task's TSS
    .long 0, 0, 0, 0, 0, 0, 0
    .long 0                     # CR3
    .long other_task
    .long 0x02                  # EFLAGS
    .long 0xa0a0a0a0, 0xc0c0c0c0, 0xd0d0d0d0, 0xb0b0b0b0
    .long other_stack, 0xebebebeb, 0xe5e5e5e5, 0xe1e1e1e1
    .long 0x10, 0x08, 0x10, 0x10, 0x10, 0x10
    .long 0
    .long 104 << 16
    .text

    .macro show_switch name
    say "\name\n"
    xor eax, eax
    str ax
    show "  TR", eax
    pushfd
    pop eax
    and eax, 0x4000
    show "  NT", eax
    mov eax, cr0
    and eax, 8
    show "  TS", eax
    movzx eax, byte ptr gdt[0x28 + 5]
    show "  first task's descriptor", eax
    movzx eax, byte ptr gdt[0x68 + 5]
    show "  other task's descriptor", eax
    movzx eax, word ptr [other]
    show "  back link", eax
    .endm

other_task:
    mov ebx, eax
    show_switch "in the other task, by CALL"
    show "  EAX from its TSS", ebx
    show "  ECX", ecx
    mov eax, esp
    sub eax, offset other_stack
    show "  ESP", eax
    clts
    mov ecx, 0x12345678
    iretd
    show_switch "in the other task, by JMP"
    show "  ECX as it was left", ecx
    clts
    jmp 0x28, 0
    show_switch "in the other task, by an interrupt"
    iretd
    show_switch "in the other task, by an exception with an error code"
    pop eax
    show "  error code", eax
    # The task that faulted goes on behind the instruction.
    add dword ptr tss[32], 2
    iretd

main:
    mov eax, offset other
    mov edi, offset gdt + 0x68
    mov ecx, 103
    mov edx, 0x89
    call set_descriptor
    mov eax, offset other       # 70: too small
    mov edi, offset gdt + 0x70
    mov ecx, 102
    call set_descriptor
    mov edi, offset gdt + 0x78  # 78: not present
    mov ecx, 103
    mov edx, 0x09
    call set_descriptor
    lea edi, idt[0x40 * 8]      # a task gate
    mov dword ptr [edi], 0x68 << 16
    mov dword ptr [edi + 4], 0x8500

    mov ecx, 0x77777777
    call 0x68, 0
    show_switch "back by IRET"
    show "  ECX", ecx
    clts
    jmp 0x68, 0
    show_switch "back by JMP"
    clts
    int 0x40
    show_switch "back from the interrupt"
    clts

    attempt "JMP to the task itself", .byte 0xea, 0, 0, 0, 0, 0x28, 0
    attempt "CALL of the task itself", .byte 0x9a, 0, 0, 0, 0, 0x28, 0
    attempt "JMP to a TSS too small", .byte 0xea, 0, 0, 0, 0, 0x70, 0
    attempt "JMP to a TSS not present", .byte 0xea, 0, 0, 0, 0, 0x78, 0
    mov ax, 0x28
    attempt "LTR of a busy TSS", ltr ax
    mov ax, 0x78
    attempt "LTR of a TSS not present", ltr ax
    mov ax, 0x10
    attempt "LTR of data", ltr ax
    mov word ptr [tss], 0x10
    pushfd
    or dword ptr [esp], 0x4000
    popfd
    attempt "IRET with NT and a link to data", iretd
    pushfd
    and dword ptr [esp], ~0x4000
    popfd

    # a task gate for #GP
    lea edi, idt[13 * 8]
    mov dword ptr [edi], 0x68 << 16
    mov dword ptr [edi + 4], 0x8500
    mov eax, 0x88
    mov ds, ax
    show_switch "back from the exception"
    clts
    ret
