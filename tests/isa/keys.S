# Protection keys in long mode: which accesses PKRU stops, their error codes, RDPKRU and WRPKRU, and what stops nothing: fetches, the
# supervisor's pages, 32-bit paging. PKRS where CPUID has it.
# Spec: Intel SDM vol. 3A 4.6.2, 4.7; vol. 2 RDPKRU, WRPKRU.
    .include "common.inc"

    .set USER, 0x00600000       # a large page for everybody, of key 3
    .set SUPERVISOR, 0x00800000 # one of the supervisor's, of key 3
    .bss
    .align 4096
pml4: .space 4096
pdpt: .space 4096
page_directory: .space 4096
    .space 4096
kernel_stack:
    .space 4096
long_stack:
idt64: .space 64 * 16
notes: .space 128 * 8
    .data
    .align 16
tss64:
    .long 0
    .long kernel_stack, 0
    .fill 23, 4, 0
idt64_pointer:
    .word 64 * 16 - 1
    .long idt64, 0
gdt64_pointer:
    .word gdt64_end - gdt64 - 1
    .long gdt64, 0
    .align 8
gdt64:
    .quad 0
    .quad 0x00cf9a000000ffff    # 08 code of 32 bits
    .quad 0x00cf92000000ffff    # 10 data
    .quad 0x00af9a000000ffff    # 18 code of 64 bits
    .quad 0x00cff2000000ffff    # 20 ring 3, data
    .quad 0x00affa000000ffff    # 28 ring 3, 64 bits
    .quad 0, 0                  # 30 TSS
gdt64_end:
kept_esp: .long 0
far_back: .long leave_long_mode, 0x08

    .text
    .code64
# An exception: two notes (vector, error code), and on at resume_at in ring 0.
    .align 16
stubs64:
    .set n, 0
    .rept 32
    .align 16
    .if (n == 8) || (n == 10) || (n == 11) || (n == 12) || (n == 13) || (n == 14) || (n == 17)
    .else
    push 0
    .endif
    push n
    jmp caught64
    .set n, n + 1
    .endr
caught64:
    pop rax
    mov [rdi], rax
    pop rax
    mov [rdi + 8], rax
back64:                         # gate 30: out of ring 3, without an exception
    add rdi, 16
    mov esp, [resume_esp]
    mov eax, [resume_at]
    jmp rax

    .macro try64 instruction:vararg
    mov dword ptr [resume_at], offset 99f
    mov [resume_esp], esp
    \instruction
    mov qword ptr [rdi], 255
    mov qword ptr [rdi + 8], 0
    add rdi, 16
99:
    .endm
    # The same in ring 3.
    .macro user64 instruction:vararg
    mov qword ptr [rdi], 255
    mov qword ptr [rdi + 8], 0
    mov dword ptr [resume_at], offset 99f
    mov [resume_esp], esp
    push 0x23
    push offset long_stack
    push 2
    push 0x2b
    push offset 98f
    iretq
98: \instruction
    int 0x30
99:
    .endm
    .macro note64 value
    mov rax, \value
    mov [rdi], rax
    add rdi, 8
    .endm
    .macro pkru value
    xor ecx, ecx
    xor edx, edx
    mov eax, \value
    wrpkru
    .endm
    .macro pkrs value
    mov ecx, 0x6e1
    xor edx, edx
    mov eax, \value
    wrmsr
    .endm

long_code:
    mov rsp, offset long_stack
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov rdi, offset notes
    mov ebp, USER
    mov ebx, SUPERVISOR
    mov byte ptr [rbp], 0xc3    # RET
    xor ecx, ecx
    xor edx, edx
    try64 wrpkru                # not without CR4.PKE
    try64 rdpkru
    mov rax, cr4
    or eax, 0x00400000
    mov cr4, rax
    mov eax, 7
    xor ecx, ecx
    push rbx
    cpuid
    pop rbx
    and ecx, 0x18
    note64 rcx
    mov ecx, 1
    try64 rdpkru
    xor ecx, ecx
    mov edx, 1
    try64 wrpkru
    pkru 0x55555514             # all but keys 0 and 3
    try64 mov [rbp + 8], rax
    mov rax, -1
    mov rdx, -1
    rdpkru
    note64 rax
    note64 rdx
    pkru 0x80                   # no writes
    try64 mov rax, [rbp + 8]
    try64 mov [rbp + 8], rax
    try64 inc qword ptr [rbp + 8]
    user64 mov rax, [rbp + 8]
    user64 mov [rbp + 8], rax
    mov rax, cr0
    and eax, 0xfffeffff
    mov cr0, rax
    try64 mov [rbp + 8], rax    # the supervisor's writes without WP
    user64 mov [rbp + 8], rax
    mov rax, cr0
    or eax, 0x10000
    mov cr0, rax
    pkru 0x40                   # no access
    try64 mov rax, [rbp + 8]
    try64 mov [rbp + 8], rax
    user64 mov rax, [rbp + 8]
    try64 call rbp              # fetches are free
    try64 mov rax, [rbx]        # the supervisor's page
    try64 mov [rbx], rax
    user64 mov rax, [rbx]       # and ring 3 in it
    mov rsi, rbp
    try64 lodsq                 # with a string instruction
    # without PKE
    mov rax, cr4
    and eax, 0xffbfffff
    mov cr4, rax
    try64 mov [rbp + 8], rax
    # PKRS
    mov rax, cr4
    or eax, 0x01000000
    mov cr4, rax
    pkrs 0x80
    try64 mov rax, [rbx]
    try64 mov [rbx], rax
    try64 mov [rbp + 8], rax
    pkrs 0x40
    try64 mov rax, [rbx]
    try64 call [rbx + 8]
    pkrs 0
    try64 mov [rbx], rax
    mov edx, 1
    mov ecx, 0x6e1
    try64 wrmsr
    jmp fword ptr [far_back]

    .code32
    .macro gate64 number, label, type
    mov eax, \label
    mov edi, offset idt64 + \number * 16
    mov [edi], ax
    mov word ptr [edi + 2], 0x18
    mov word ptr [edi + 4], \type
    shr eax, 16
    mov [edi + 6], ax
    .endm

main:
    mov eax, 7
    xor ecx, ecx
    cpuid
    not ecx
    test ecx, 0x80000008
    jz 1f
    say "no protection keys\n"
    ret
1:  mov [kept_esp], esp
    mov ecx, 31
    mov ebx, offset stubs64 + 31 * 16
1:  gate64 0, ebx, 0x8e00
    lea esi, [ecx * 8]
    mov eax, [idt64]
    mov idt64[esi * 2], eax
    mov eax, idt64[4]
    mov idt64[esi * 2 + 4], eax
    sub ebx, 16
    dec ecx
    jns 1b
    gate64 0x30, "offset back64", 0xee00
    # 1 GiB as it is, by pages of 2 MiB for everybody
    mov dword ptr [pml4], offset pdpt + 7
    mov dword ptr [pdpt], offset page_directory + 7
    mov edi, offset page_directory
    mov eax, 0x87
2:  mov [edi], eax
    add edi, 8
    add eax, 0x200000
    cmp eax, 0x40000087
    jb 2b
    mov dword ptr page_directory[3 * 8 + 4], 0x18000000
    mov dword ptr page_directory[4 * 8 + 4], 0x18000000
    mov dword ptr page_directory[4 * 8], SUPERVISOR + 0x83
    lgdt gdt64_pointer
    mov eax, offset tss64
    mov edi, offset gdt64 + 0x30
    mov ecx, 103
    mov edx, 0x89
    call set_descriptor
    mov eax, 0x620             # PAE, OSFXSR
    mov cr4, eax
    mov eax, offset pml4
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x100               # LME
    wrmsr
    mov eax, cr0
    or eax, 0x80010000          # PG, WP
    mov cr0, eax
    lidt idt64_pointer
    mov ax, 0x30
    ltr ax
    jmp 0x18, offset long_code

leave_long_mode:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov ecx, 0xc0000080
    rdmsr
    and eax, 0xfffffeff
    wrmsr
    mov esp, [kept_esp]
    mov esi, offset notes
    .macro told name
    say "\name: vector "
    call put_note
    say " error "
    call put_note
    say "\n"
    .endm
    .macro value64 name
    say "\name "
    call put_note
    say "\n"
    .endm
    told "WRPKRU without PKE"
    told "RDPKRU without PKE"
    value64 "PKU and OSPKE in CPUID"
    told "RDPKRU, ECX 1"
    told "WRPKRU, EDX 1"
    told "write, other keys denied"
    value64 "RAX of RDPKRU"
    value64 "RDX of RDPKRU"
    told "read, WD"
    told "write, WD"
    told "INC, WD"
    told "ring 3 reads, WD"
    told "ring 3 writes, WD"
    told "write, WD, without WP"
    told "ring 3 writes, WD, without WP"
    told "read, AD"
    told "write, AD"
    told "ring 3 reads, AD"
    told "call, AD"
    told "read of the supervisor's page"
    told "write to it"
    told "ring 3 reads it"
    told "LODS, AD"
    told "write, AD, without PKE"
    told "read of the supervisor's page, PKRS WD"
    told "write to it"
    told "write to the user's page"
    told "read of the supervisor's page, PKRS AD"
    told "call through it"
    told "write to it, PKRS 0"
    told "WRMSR PKRS, EDX 1"
    ret
put_note:                       # 64 bits at esi
    mov eax, [esi + 4]
    call put_hex
    mov eax, [esi]
    call put_hex
    add esi, 8
    ret
