# Gates and privilege levels: call gates with parameters, interrupt gates from ring 3, conforming code, what ring 3 may not do.
# Spec: Intel SDM vol. 3A chapters 5 and 6.
    .include "common.inc"

    .data
    .align 4
seen:       .fill 8, 4, 0       # what the procedures behind gates find
    .text

# As attempt, in ring 3 with its own stack.
    .macro begin_user
    mov dword ptr [resume_at], offset 99f
    mov dword ptr [resume_esp], esp
    mov dword ptr [vector], 255
    mov dword ptr [begin], offset 98f
    push 0x23
    push offset ring3_stack
    push 0x02
    push 0x1b
    push offset 97f
    iretd
97: push 0x23
    pop ds
98:
    .endm
    .macro end_user name
    int 0x30
99: say "\name: "
    call put_outcome
    .endm
    .macro user name, instruction:vararg
    begin_user
    \instruction
    end_user "\name"
    .endm

# Gate at `edi` in a descriptor table: offset `eax`, selector `ecx`, parameters in bits 0 to 4 and type in bits 8 to 15 of `edx`.
make_gate:
    mov [edi], ax
    mov [edi + 2], cx
    mov [edi + 4], dx
    push eax
    shr eax, 16
    mov [edi + 6], ax
    pop eax
    ret

back:                           # behind gate 30: the end of a piece in ring 3
    push 0x10
    pop ds
    mov [seen + 28], esp
    mov esp, [resume_esp]
    jmp [resume_at]

procedure:                      # behind call gates: two parameters
    push 0x10
    pop ds
    mov [seen], cs
    mov [seen + 4], ss
    mov eax, [esp + 4]          # CS of the caller
    mov [seen + 8], eax
    mov eax, [esp + 8]
    mov [seen + 12], eax
    mov eax, [esp + 12]
    mov [seen + 16], eax
    mov eax, [esp + 20]         # SS of the caller
    mov [seen + 20], eax
    mov eax, esp
    sub eax, offset ring0_stack
    mov [seen + 24], eax
    push 0x23
    pop ds
    retf 8

conforming:
    mov eax, cs
    retf

main:
    mov eax, offset back
    mov ecx, 0x08
    lea edi, idt[0x30 * 8]
    mov edx, 0xee00
    call make_gate
    lea edi, idt[0x31 * 8]      # a gate that ring 3 may not use
    mov edx, 0x8e00
    call make_gate
    lea edi, idt[0x32 * 8]      # one to a data segment
    mov ecx, 0x10
    mov edx, 0xee00
    call make_gate
    mov eax, offset procedure
    mov ecx, 0x08
    mov edi, offset gdt + 0x68
    mov edx, 0xec02
    call make_gate
    mov edi, offset gdt + 0x70  # not for ring 3
    mov edx, 0x8c02
    call make_gate
    mov edi, offset gdt + 0x78  # not present
    mov edx, 0x6c02
    call make_gate

    # through a call gate and back
    begin_user
    push 0x22222222
    push 0x11111111
    .byte 0x9a, 0, 0, 0, 0, 0x6b, 0
    mov [seen + 28], esp
    mov ecx, ss
    end_user "call gate"
    movzx eax, word ptr [seen]
    show "CS inside", eax
    movzx eax, word ptr [seen + 4]
    show "SS inside", eax
    movzx eax, word ptr [seen + 8]
    show "CS outside", eax
    show "first parameter", [seen + 12]
    show "second parameter", [seen + 16]
    movzx eax, word ptr [seen + 20]
    show "SS outside", eax
    show "stack used", [seen + 24]
    show "SS afterwards", ecx

    # from ring 0 through the same gate: no change of stack
    mov eax, esp
    push 0x22222222
    push 0x11111111
    .byte 0x9a, 0, 0, 0, 0, 0x68, 0
    push 0x10
    pop ds
    sub eax, eax
    user "call gate of ring 0", .byte 0x9a, 0, 0, 0, 0, 0x73, 0
    user "call gate not present", .byte 0x9a, 0, 0, 0, 0, 0x7b, 0
    user "jump through a call gate", .byte 0xea, 0, 0, 0, 0, 0x6b, 0
    user "call of ring 0 code", .byte 0x9a, 0, 0, 0, 0, 0x08, 0
    user "INT of a gate of ring 0", int 0x31
    user "INT of a gate to data", int 0x32
    user "INT of an empty gate", int 0x33
    user "INT3, a gate of ring 0", int3

    # conforming code runs with the caller's privilege
    begin_user
    call 0x50, offset conforming
    mov ebx, eax
    end_user "call of conforming code"
    show "CS in it", ebx

    # what ring 3 may not do
    user "CLI", cli
    user "HLT", hlt
    user "IN", in al, 0x80
    user "MOV from CR0", mov eax, cr0
    user "MOV from DR0", mov eax, dr0
    user "LGDT", lgdt gdt_pointer
    user "LMSW", lmsw ax
    user "INVLPG", invlpg [esp]
    user "RDMSR", rdmsr
    user "CLTS", clts
    user "SMSW", smsw eax
    mov eax, 0x10
    user "data of ring 0", mov ds, ax
    mov eax, 0x20
    user "stack of another RPL", mov ss, ax
    begin_user
    push 0x08
    push offset conforming
    retf
    end_user "return to ring 0"

    # IRET and POPF of ring 3 leave IOPL and IF alone
    begin_user
    push 0x3202
    popfd
    pushfd
    pop ebx
    end_user "POPF"
    show "flags", ebx

    # with a bitmap that lets port 80 through, and not 81
    mov word ptr tss[102], 104
    mov ecx, 104 + 32
    mov word ptr gdt[0x28], cx
    mov eax, offset bitmap
    mov edi, offset gdt + 0x28
    mov eax, offset tss_with_map
    mov edx, 0x89
    call set_descriptor
    mov ax, 0x28
    ltr ax
    user "IN of an allowed port", in al, 0x80
    user "IN of a forbidden port", in al, 0x81
    user "IN of both", in ax, 0x80
    user "IN beyond the map", in al, 0xf8
    ret

    .data
    .align 16
tss_with_map:
    .long 0, ring0_stack, 0x10
    .fill 22, 4, 0
    .word 0, 104
bitmap:
    .fill 16, 1, 0xff
    .byte 0xfe                  # ports 80 to 87
    .fill 15, 1, 0xff
    .byte 0xff
