# Protection keys in long mode: which accesses PKRU stops, their error codes, RDPKRU and WRPKRU, and what stops nothing: fetches, the
# supervisor's pages, 32-bit paging. PKRS where CPUID has it.
# Spec: Intel SDM vol. 3A 4.6.2, 4.7; vol. 2 RDPKRU, WRPKRU.
    .include "common.inc"
    .include "long_mode.inc"

    .set USER, 0x00600000       # a large page for everybody, of key 3
    .set SUPERVISOR, 0x00800000 # one of the supervisor's, of key 3
    .text
    .code64
# An exception: two notes (vector, error code), and on at resume_at in ring 0.
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
    push 0x33
    push offset long_stack
    push 2
    push 0x3b
    push offset 98f
    iretq
98: \instruction
    int 0x30
99:
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
    begin_long_code
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
main:
    mov eax, 7
    xor ecx, ecx
    cpuid
    not ecx
    test ecx, 0x80000008
    jz 1f
    say "no protection keys\n"
    ret
1:  call set_long_tables
    mov dword ptr page_directory[3 * 8 + 4], 0x18000000
    mov dword ptr page_directory[4 * 8 + 4], 0x18000000
    mov dword ptr page_directory[4 * 8], SUPERVISOR + 0x83
    call enter_long_mode
    .macro told name
    say "\name: vector "
    call put_note
    say " error "
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
