# Paging in 32-bit mode with entries of 4 bytes, then PAE: error codes and addresses of page faults, accessed and dirty bits, WP, large pages,
# and translations that stay until they are invalidated.
# Spec: Intel SDM vol. 3A chapter 4.
    .include "common.inc"

    .set WINDOW, 0x00c00000     # 12 MiB: where the tests map things
    .bss
    .align 4096
directory: .space 4096
low_table: .space 4096
window_table: .space 4096
page_a: .space 4096
page_b: .space 4096
pae_directory: .space 4096
pae_table: .space 4096
pointers: .space 32

    .text
main:
    # The first 4 MiB as they are, by small pages, so that the guest itself runs.
    mov edi, offset low_table
    mov eax, 0x07
1:  mov [edi], eax
    add edi, 4
    add eax, 0x1000
    cmp eax, 0x400007
    jb 1b
    mov eax, offset low_table + 7
    mov [directory], eax
    mov eax, offset window_table + 7
    mov directory[3 * 4], eax
    mov dword ptr [page_a], 0xaaaaaaaa
    mov dword ptr [page_b], 0xbbbbbbbb
    mov eax, offset directory
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax

    attempt "read, no page", mov eax, ds:[WINDOW + 0x123]
    attempt "write, no page", mov ds:[WINDOW + 0x456], eax
    attempt "read, no table", mov eax, ds:[0x40000000]
    mov ebx, WINDOW + 0x789
    attempt "jump, no page", jmp ebx

    # accessed and dirty
    mov eax, offset page_a + 1
    mov [window_table], eax
    attempt "read of a read-only page", mov edx, ds:[WINDOW]
    show "found", edx
    mov eax, [window_table]
    and eax, 0xfff
    show "entry after a read", eax
    attempt "write, WP clear", mov dword ptr ds:[WINDOW + 4], 1
    mov eax, [window_table]
    and eax, 0xfff
    show "entry after a write", eax
    mov eax, cr0
    or eax, 0x10000
    mov cr0, eax
    attempt "write, WP set", mov dword ptr ds:[WINDOW + 8], 1
    attempt "INC, WP set", inc dword ptr ds:[WINDOW + 8]
    mov eax, directory[3 * 4]
    and eax, 0xfff
    show "directory entry", eax

    # a change of an entry is seen after INVLPG
    mov eax, offset page_b + 3
    mov [window_table], eax
    invlpg ds:[WINDOW]
    attempt "read of the other page", mov edx, ds:[WINDOW]
    show "found", edx
    attempt "write to it", mov dword ptr ds:[WINDOW], 0x12345678
    show "page b", dword ptr [page_b]
    mov dword ptr [window_table], 0
    mov eax, cr3
    mov cr3, eax
    attempt "read, unmapped", mov edx, ds:[WINDOW]

    # across two pages: the second is missing, and nothing may have been written
    mov eax, offset page_a + 3
    mov [window_table], eax
    mov dword ptr page_a[0xffc], 0x11111111
    attempt "write across", mov dword ptr ds:[WINDOW + 0xffe], 0x22222222
    show "first part", dword ptr page_a[0xffc]
    mov eax, offset page_b + 3
    mov window_table[4], eax
    attempt "write across, mapped", mov dword ptr ds:[WINDOW + 0xffe], 0x22222222
    show "first part", dword ptr page_a[0xffc]
    show "second part", dword ptr [page_b]

    # string instructions stop at the page that is missing
    mov dword ptr window_table[8], 0
    mov edi, WINDOW + 0x1ff8
    mov ecx, 6
    mov eax, 0x33333333
    attempt "REP STOSD into a missing page", rep stosd
    show "ECX", ecx
    mov eax, edi
    show "EDI", eax

    # a page of 4 MiB
    mov eax, cr4
    or eax, 0x10
    mov cr4, eax
    mov dword ptr directory[4 * 4], 0x83
    attempt "read through a large page", mov edx, [0x01000000 + page_b]
    show "found", edx
    mov eax, directory[4 * 4]
    and eax, 0xfff
    show "its entry", eax
    mov dword ptr directory[4 * 4], 0x00200083
    mov eax, cr3
    mov cr3, eax
    attempt "reserved bit set", mov edx, ds:[0x01000000]

    # ring 3 may not read the supervisor's pages
    mov eax, offset page_a + 3
    mov [window_table], eax
    mov eax, cr3
    mov cr3, eax
    mov dword ptr [begin], offset user_read
    mov dword ptr [resume_at], offset 2f
    mov dword ptr [resume_esp], esp
    mov dword ptr [vector], 255
    push 0x23
    push offset ring3_stack
    pushfd
    push 0x1b
    push offset 1f
    iretd
1:  push 0x23
    pop ds
user_read:
    mov eax, ds:[WINDOW + 0x10]
    mov ds:[WINDOW + 0x10], eax
    ud2
2:  say "read in ring 3: "
    call put_outcome

    # PAE: entries of 8 bytes, and pages without execution
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov eax, cr4
    or eax, 0x20
    mov cr4, eax
    mov eax, offset pae_directory + 1
    mov [pointers], eax
    mov dword ptr [pae_directory], 0x83
    mov dword ptr pae_directory[8], 0x00200083
    mov eax, offset pae_table + 3
    mov pae_directory[6 * 8], eax
    mov eax, offset pointers
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x800
    wrmsr
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax
    attempt "PAE: read, no page", mov eax, ds:[WINDOW]
    mov byte ptr [page_a], 0xc3
    mov eax, offset page_a + 3
    mov [pae_table], eax
    mov dword ptr pae_table[4], 0x80000000
    mov ebx, WINDOW
    attempt "PAE: read of a page without execution", mov al, ds:[WINDOW]
    attempt "PAE: call into it", call ebx
    mov dword ptr pae_table[4], 0
    invlpg ds:[WINDOW]
    attempt "PAE: call, execution allowed", call ebx
    mov eax, [pae_table]
    and eax, 0xfff
    show "PAE: entry", eax
    mov dword ptr pae_table[4], 0x40000000
    invlpg ds:[WINDOW]
    attempt "PAE: reserved bit", mov al, ds:[WINDOW]
    ret
