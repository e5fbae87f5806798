"""C in the library: a table of texts, accepted or not."""

from __future__ import annotations

import pytest

from grammars import Grammar, library


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
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_programs(c: Grammar, text: str) -> None:
    assert c.accepts(text), c.explain(text)


@pytest.mark.parametrize("text", REJECTED)
def test_no_programs(c: Grammar, text: str) -> None:
    assert not c.accepts(text)


def test_texts_of_its_own_are_programs(c: Grammar) -> None:
    for seed in range(20):
        assert c.accepts(c.sample(seed=seed, max_bytes=300))
