# Real mode: interrupts through the vector table, wrap-around at 64 KiB, limits, decimal arithmetic, and segments that keep large limits.
# Spec: Intel SDM vol. 3A chapter 21 (8086 emulation; 20 in older editions), vol. 2.
    .include "common.inc"

    .set PLACE, 0x8000          # where the 16-bit part is copied: segment 0800
    .data
    .align 4
ivt_pointer:
    .word 0x3ff
    .long 0
kept_esp: .long 0

    .macro record value:vararg
    mov eax, \value
    mov [di], eax
    add di, 4
    .endm

    .section .rodata
    .align 16
    .code16
real_begin:
    xor eax, eax
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    .byte 0xea
    .word 1f - real_begin, 0x0800
1:  mov ax, 0x0800
    mov ds, ax
    mov es, ax
    mov ax, 0x0900
    mov ss, ax
    mov sp, 0x1000
    mov di, offset results - real_begin
    xor eax, eax

    # INT 60: what is on the handler's stack
    sti
    stc
    int 0x60
    cli
    # divide error: the saved IP is the instruction's
    xor ecx, ecx
    mov word ptr [after - real_begin], offset 2f - real_begin
divide: div cx
2:  record ebp
    # a word at offset FFFF: interrupt 13
    mov word ptr [after - real_begin], offset 3f - real_begin
    mov bx, 0xffff
beyond: mov ax, [bx]
3:  record ebp
    # undefined opcode
    mov word ptr [after - real_begin], offset 4f - real_begin
undefined: ud2
4:  record ebp

    # PUSH SP pushes what SP was
    mov bx, sp
    push sp
    pop ax
    sub ax, bx
    movzx eax, ax
    record eax
    # SI wraps
    mov si, 0xffff
    lodsb
    movzx eax, si
    record eax
    # LOOP with CX = 0 counts down from 65536
    xor cx, cx
    xor edx, edx
5:  inc edx
    loop 5b
    record edx
    # ... and with 32-bit count not touched above
    mov ecx, 0x00010002
    xor edx, edx
6:  inc edx
    loop 6b
    record edx
    record ecx
    # decimal arithmetic
    mov ax, 0x0099
    add al, 0x01
    daa
    pushf
    pop dx
    and dx, 0x11
    shl edx, 16
    mov dx, ax
    record edx
    mov ax, 0x0010
    sub al, 0x01
    das
    movzx eax, ax
    record eax
    mov ax, 0x0207
    aad
    movzx eax, ax
    record eax
    mov ax, 0x004f
    aam
    movzx eax, ax
    record eax
    mov ax, 0x000f
    aaa
    movzx eax, ax
    record eax
    mov ax, 0x0200
    sub al, 1
    aas
    movzx eax, ax
    record eax
    # 32-bit operands and addresses
    mov ebx, 0x00000010
    mov eax, 0x12345678
    mov [ebx + ebx * 2 + scratch - real_begin], eax
    movzx eax, word ptr [scratch - real_begin + 0x30 + 2]
    record eax
    # FS kept the limit of 4 GiB that it had
    mov ebx, 0x00100000
    mov eax, fs:[ebx]
    mov edx, cs:[copy_of_entry - real_begin]
    sub eax, edx
    record eax
    # LES, segment arithmetic, string move between segments
    les bx, [far_pointer - real_begin]
    mov ax, es
    shl eax, 16
    mov ax, bx
    record eax
    push di
    cld
    mov si, offset text_from - real_begin
    mov di, 0x40
    mov cx, 5
    rep movsb
    pop di
    mov eax, es:[0x40]
    record eax
    # POPF changes IF and IOPL at will
    push 0x3202
    popf
    pushf
    pop ax
    push 2
    popf
    movzx eax, ax
    record eax
    # CALL and RET FAR
    .byte 0x9a
    .word far_procedure - real_begin, 0x0800
    record edx
    # BOUND
    mov word ptr [after - real_begin], offset 7f - real_begin
    mov ax, 5
outside: bound ax, [limits - real_begin]
7:  record ebp

    # back to protected mode
    lgdt cs:[gdt_again - real_begin]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0x66, 0xea
    .long protected
    .word 0x08

far_procedure:
    movzx edx, sp
    sub edx, 0xffc
    retf

int60:                          # IP, CS, flags of the caller, and the handler's own
    push bp
    mov bp, sp
    movzx eax, word ptr [bp + 4]
    shl eax, 16
    mov ax, [bp + 2]
    sub ax, offset 8f - real_begin
8:  mov [di], eax
    movzx eax, word ptr [bp + 6]
    and eax, 0x0301
    mov [di + 4], eax
    pushf
    pop ax
    and eax, 0x0301
    mov [di + 8], eax
    add di, 12
    pop bp
    iret

# An exception: EBP = which << 16 | saved IP, and goes on at `after`.
int0:
    mov bp, 0
    jmp caught16
int5:
    mov bp, 5
    jmp caught16
int6:
    mov bp, 6
    jmp caught16
int13:
    mov bp, 13
caught16:
    shl ebp, 16
    pop bp
    sub bp, [places - real_begin]
    add sp, 4
    push word ptr [after - real_begin]
    ret

    .align 4
after: .word 0
places: .word 0
far_pointer: .word 0x1234, 0x0a00
limits: .word 6, 8
text_from: .ascii "abcde"
    .align 4
copy_of_entry: .long 0
gdt_again:
    .word gdt_end - gdt - 1
    .long gdt
scratch: .fill 64, 1, 0
results: .fill 40, 4, 0xeeeeeeee
real_end:

    .text
    .code32
    .macro vector16 number, label
    mov dword ptr ds:[\number * 4], 0x08000000 + (\label - real_begin)
    .endm
main:
    mov [kept_esp], esp
    vector16 0, int0
    vector16 5, int5
    vector16 6, int6
    vector16 13, int13
    vector16 0x60, int60
    mov esi, offset real_begin
    mov edi, PLACE
    mov ecx, offset real_end - real_begin
    rep movsb
    mov eax, ds:[0x00100000]
    mov ds:[PLACE + (copy_of_entry - real_begin)], eax
    # segments of 64 KiB: what real mode wants to find
    mov eax, PLACE
    mov ecx, 0xffff
    mov edx, 0x9a
    mov edi, offset gdt + 0x68
    call set_descriptor
    mov dx, 0x92
    mov edi, offset gdt + 0x70
    call set_descriptor
    lidt ivt_pointer
    mov ax, 0x70
    mov ds, ax
    mov es, ax
    mov ss, ax
    jmp 0x68, 0
protected:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, [kept_esp]
    lidt idt_pointer
    mov esi, PLACE + (results - real_begin)
    .macro result name
    lodsd
    show "\name", eax
    .endm
    result "INT: CS and distance to the handler"
    result "INT: flags saved"
    result "INT: flags in the handler"
    result "DIV by 0"
    result "word at FFFF"
    result "UD2"
    result "PUSH SP"
    result "SI behind FFFF"
    result "LOOP from 0"
    result "LOOP, upper half set"
    result "ECX afterwards"
    result "DAA"
    result "DAS"
    result "AAD"
    result "AAM"
    result "AAA"
    result "AAS"
    result "32-bit address"
    result "beyond 1 MiB through FS"
    result "LES"
    result "MOVSB"
    result "POPF"
    result "CALL FAR"
    result "BOUND"
    lodsd
    show "end mark", eax
    ret
