# Exceptions of the CPU in 32-bit protected mode: vectors, error codes, and which instruction the saved EIP names.
# Spec: Intel SDM vol. 3A chapter 6.
    .include "common.inc"

    .data
    .align 4
bounds: .long 0, 9
pointer: .long 0, 0x30
nowhere_idt: .word 0
    .long 0

    .text
main:
    xor edx, edx
    xor ecx, ecx
    attempt "DIV by 0", div ecx
    mov edx, 5
    mov ecx, 2
    attempt "DIV overflow", div ecx
    attempt "INT3", int3
    mov al, 0x7f
    add al, 1
    attempt "INTO with OF", into
    xor eax, eax
    attempt "INTO without OF", into
    mov eax, 10
    attempt "BOUND outside", bound eax, [bounds]
    mov eax, 9
    attempt "BOUND inside", bound eax, [bounds]
    attempt "UD2", ud2
    attempt "LOCK on MOV", .byte 0xf0, 0x89, 0xc0
    attempt "MOV to CS", .byte 0x8e, 0xc8

    # segments
    mov eax, 0x88
    attempt "selector beyond the GDT", mov ds, ax
    mov eax, 0x0c
    attempt "selector in an empty LDT", mov ds, ax
    mov eax, 0x30
    attempt "data segment not present", mov es, ax
    attempt "stack segment not present", mov ss, ax
    xor eax, eax
    attempt "null stack segment", mov ss, ax
    attempt "null data segment", mov es, ax
    attempt "access through it", mov es:[0], eax
    mov eax, 0x08
    attempt "code as stack segment", mov ss, ax
    attempt "LES of a segment not present", les eax, [pointer]
    attempt "far jump to data", .byte 0xea, 0, 0, 0, 0, 0x10, 0
    attempt "far jump to code not present", .byte 0xea, 0, 0, 0, 0, 0x38, 0
    attempt "far jump to nothing", .byte 0xea, 0, 0, 0, 0, 0, 0
    mov eax, 0x58
    mov es, ax
    attempt "last dword of a small segment", mov edx, es:[12]
    attempt "beyond a small segment", mov edx, es:[13]
    mov eax, 0x60
    mov es, ax
    attempt "below an expand-down segment", mov edx, es:[15]
    attempt "in an expand-down segment", mov edx, es:[0x100]
    mov eax, 0x10
    mov es, ax

    # control
    attempt "INT of an empty gate", int 0x40
    mov eax, cr0
    or eax, 8
    mov cr0, eax
    attempt "x87 with TS", fnop
    attempt "WAIT with TS, no MP", fwait
    or eax, 2
    mov cr0, eax
    attempt "WAIT with TS and MP", fwait
    attempt "CLTS", clts
    attempt "x87 after it", fnop

    # single step: a trap behind the instruction
    pushfd
    or dword ptr [esp], 0x100
    begin_attempt
    popfd
    nop
    nop
    end_attempt "POPF sets TF, NOP"
    add esp, 4
    mov eax, dr6
    and eax, 0x4000
    show "DR6.BS", eax

    # a fault whose gate is not there is a double fault
    mov byte ptr idt[6 * 8 + 5], 0x0e
    attempt "UD2 without its gate", ud2
    mov byte ptr idt[6 * 8 + 5], 0x8e
    mov byte ptr idt[13 * 8 + 5], 0x0e
    attempt "UD2 with its gate again", ud2
    mov eax, 0x88
    attempt "#GP without its gate", mov ds, ax
    mov byte ptr idt[13 * 8 + 5], 0x8e
    ret
