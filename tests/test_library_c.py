"""C in the library: a table of texts, accepted or not."""

from __future__ import annotations

import pytest

from grammars import Grammar, GrammarError, library


@pytest.fixture(scope="module")
def c() -> Grammar:
    return library.load("c")


ACCEPTED = [
    "",
    "int x;",
    "int x = 1, *y, z[3];",
    "int f(void);",
    "int f(int a, char *b) { return a + *b; }",
    "#include <stdio.h>\nint main(void) { return 0; }",
    "#define MAX(a, b) \\\n  ((a) > (b) ? (a) : (b))\nint x;",
    "/* a * b **/ int x; // the end\n",
    "struct point { int x, y; };",
    "typedef struct { double re; double im; } complex_t;",
    "typedef unsigned long long u64;",
    "enum colour { RED, GREEN = 3, BLUE, };",
    "union u { int i; float f; } v;",
    'static const char *names[] = { "a", "b" "c", };',
    "int a[2][2] = { { 1, 2 }, [1] = { 3, 4 } };",
    "struct point p = { .x = 1, .y = 2 };",
    "int (*handler)(int, const char *);",
    "int f(int (*g)(int), int n, ...) { return g(n); }",
    "char *strdup(const char *);",
    "void f(int n) { for (int i = 0; i < n; i++) ; }",
    "void f(int n) { for (;;) break; }",
    "void f(int n) { while (n--) { if (n % 2) continue; else n -= 2; } }",
    "void f(int n) { do { n /= 2; } while (n > 0); }",
    "int f(int n) { switch (n) { case 1: case 2: return 3; default: break; } return 0; }",
    "void f(void) { goto end; end: ; }",
    "int f(int *p) { return *p++ + ++*p - -1; }",
    "int f(int x) { return (int)(x * 1.5e-3f) << 2 | ~x & 0xFFUL; }",
    "int f(int x) { return x ? x > 0 ? 1 : -1 : 0; }",
    "size_t f(void) { return sizeof(struct point) + sizeof x; }",
    "void f(void) { p->next.value[i]->g(1, 2)[3] = 4; }",
    "void f(void) { char c = '\\n', d = '\\'', e[] = \"say \\\"hi\\\"\"; }",
    "void f(void) { x = (struct point){ 1, 2 }; }",
    "void f(void) { a <<= 1, b ^= 2; }",
    "void f(void) { if (a) if (b) c(); else d(); }",
    "bool f(bool x) { return !x && true; }",
    "#include <stdio.h>",
    "int x; // the end",
    "int x;\n  #pragma once",
    "void f(void) {\n#if A\n  b();\n#else // c\n  d();\n#endif\n}",
    "const int*const*p;",
    "unsigned const long int x;",
    "typedef struct node node, *list;",
    "typedef int (*compare)(const void *, const void *);",
    "long double complex_of(_Complex double z);",
    "int integer, forth, _if, int_;",
    "int f(int n) { return-n; }",
    "int f(int n) { return(n); }",
    "int f(int n) { if(n)return 1;else return 0; }",
    "void f(int n) { do n--; while(n); do{}while(0); }",
    "int f(int n) { switch(n) { case'a': case-1: case(2): ; } }",
    "int f(int a, int b) { return a - -b; }",
    "int f(int a, int b) { return a-- - --b; }",
    "int f(int a, int b) { return a---b; }",
    "int f(int a, int b) { return a+++b; }",
    "int f(int a, int b) { return a+ +b, a-+b, a+-b, a&~b, a& &b; }",
    "int f(int a, int *b) { return a / *b; }",
    "int f(int a, int *b) { return a //*b\n; }",
    "int f(int a, int *b) { return a/*b*/; }",
    "int f(int a, int *b) { return a&&*b || &a&&&b; }",
    'int f(void) { return sizeof x * sizeof(int) + sizeof*p + sizeof"a"; }',
    "void f(void) { *p = *(int *)q = (a) = -b = c; }",
    "void f(void) { a = b ? c = d : e; }",
    "void f(void) { a ? b : c ? d : e, g; }",
    "void f(void) { x = (char)-1 + (unsigned char)*p + (int)(char)c; }",
    "void f(void) { .5; 1.; 1e9; 0x1fUL; 07; 1.5e-3L; 10ll; }",
    'void f(void) { \'\\0\'; \'\\x41\'; "\\t%d\\n" "b"; "abc"[1]; }',
    "void f(void) { (void)0; ((void (*)(int))g)(1); }",
]
REJECTED = [
    "int",
    "int x",
    "int x = ;",
    "int x = 1",
    "int 1x;",
    "int f(int a { return a; }",
    "int f(int a) { return a }",
    "int f(int a) { return a; ",
    "int f(int a) return a; }",
    "x = 1;",
    "return 0;",
    "if (x) { }",
    "int f(void) { if x return 1; }",
    "int f(void) { if (x return 1; }",
    "int f(void) { else return 1; }",
    "int f(void) { for (i = 0; i < 3) ; }",
    "int f(void) { while () ; }",
    "int f(void) { do x(); while (1) }",
    "int f(void) { x = 1 + ; }",
    "int f(void) { x = * ; }",
    "int f(void) { a[1; }",
    "int f(void) { f(1, ); }",
    "int f(void) { f(1 2); }",
    "int f(void) { x ? 1; }",
    "int f(void) { return = 3; }",
    "int f(void) { int if = 3; }",
    "int f(void) { 'ab; }",
    'int f(void) { "ab; }',
    'int f(void) { "a\nb"; }',
    "int f(void) { x.1; }",
    "struct { int x };",
    "enum { A B };",
    "int x; */",
    "/* int x;",
    "int f(void) { } }",
    "int f(void) { case: ; }",
    "int x; #include <stdio.h>",
    "void f(void) { a(); #endif\n }",
    "int x; / / comment",
    "voidf(int x) { }",
    "f(int x) { }",
    "int f(int) x { }",
    "int x { }",
    "int f(void) { } = 1;",
    "int f(a, ) { }",
    "int f(int a int b) { }",
    "int f(..., int a) { }",
    "int while;",
    "int f(void) { structure point { int x; }; }",
    "typedef struct { int x; };",
    "const;",
    "struct { int x = 1; } s;",
    "int a[2;",
    "int a[] = { 1 2 };",
    "int a[] = { , };",
    "int f(void) { a--b; }",
    "int f(void) { a++b; }",
    "int f(void) { a----b; }",
    "int f(void) { a&&&&b; }",
    "int f(void) { &&a; }",
    "int f(void) { a/*b; }",
    "int f(void) { a - > b; }",
    "int f(void) { a < = b; }",
    "int f(void) { a + b = c; }",
    "int f(void) { a % 2 = 0; }",
    "int f(void) { (int)a = 1; }",
    "int f(void) { if (a + b = c) ; }",
    "int f(void) { a ? b : c = d; }",
    "int f(void) { sizeof(int) x; }",
    "int f(void) { gotoend ; ; end }",
    "int f(void) { 1.5.2; }",
    "int f(void) { 0x; }",
    "int f(void) { ''; }",
    'int f(void) { "\\q"; }',
    "int f(void) { a b c; }",
    "int f(void) { if (a) else b(); }",
    "int f(void) { for (int i = 0, i < 3, i++) ; }",
    "int f(void) { switch { case 1: ; } }",
    "int f(void) { break }",
    "int f(void) { int x = { 1, }",
    "int f(void) { default; }",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_programs(c: Grammar, text: str) -> None:
    assert c.accepts(text), c.explain(text)


@pytest.mark.parametrize("text", REJECTED)
def test_no_programs(c: Grammar, text: str) -> None:
    assert not c.accepts(text)


TYPED = [
    ("size_t n;", True),
    ("size_t size_to(size_t n) { return (size_t)n + n; }", True),
    ("typedef struct pair { int a, b; } pair; pair p = (pair){ 1, 2 };", True),
    ("void f(void) { x->size_t = (pair *)y; }", True),
    ("other n;", False),
    ("void f(void) { (a) b; }", False),
    ("void f(void) { n * m; size_t * m; }", True),
    ("void f(void) { n * m = 3; }", False),
    ("void f(void) { size_t * m = 3; }", True),
    ("void f(void) { x = size_t; }", False),
    ("int size_t;", False),
    ("size_tn;", False),
]


@pytest.mark.parametrize(("text", "accepted"), TYPED)
def test_types_that_are_given(text: str, accepted: bool) -> None:
    assert library.load("c", types=["size_t", "pair"]).accepts(text) is accepted


def test_without_types_there_are_those_of_the_language() -> None:
    grammar = library.load("c", types=[])
    assert grammar.accepts("struct s { long x; } f(int a);")
    assert not grammar.accepts("size_t n;")
    with pytest.raises(GrammarError, match="'long long' is no name"):
        library.load("c", types=["long long"])


def test_texts_of_its_own_are_programs(c: Grammar) -> None:
    for seed in range(20):
        assert c.accepts(c.sample(seed=seed, max_bytes=300))
