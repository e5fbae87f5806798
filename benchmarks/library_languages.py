"""Reference parsers of languages for queries, programs and diagrams."""

from __future__ import annotations

import ast
import atexit
import contextlib
import functools
import json
import random
import re
import shutil
import sqlite3
import subprocess
import warnings
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks.library_reference import Reader, Reference, plain, raising

# -- SQL -------------------------------------------------------------------------------------------

_SQL_PIECE: Final = re.compile(
    r"'(?:[^']|'')*'?|\"(?:[^\"]|\"\")*\"?|--[^\n]*|/\*.*?(?:\*/|$)|;|[^'\"\-/;]+|.", re.DOTALL
)
_SYNTAX: Final = re.compile(r"syntax error|unrecognized token|incomplete input|malformed")


def _sql_statements(text: str) -> list[str]:
    """Statements between semicolons, those that are blank left out."""
    statements = [""]
    for piece in _SQL_PIECE.findall(text):
        if piece == ";":
            statements.append("")
        else:
            statements[-1] += piece
    bare = [re.sub(r"--[^\n]*|/\*.*?\*/|\s", "", s, flags=re.DOTALL) for s in statements]
    return [statement for statement, left in zip(statements, bare, strict=True) if left]


def _sqlite(text: str) -> bool:
    """Whether SQLite finds no fault with the syntax of any statement; tables need not exist."""
    statements = _sql_statements(text)
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for statement in statements:
            if "\0" in statement:
                return False
            try:
                connection.execute("EXPLAIN " + statement)
            except sqlite3.ProgrammingError:
                continue  # parameters that are not bound
            except (sqlite3.Error, sqlite3.Warning) as error:
                if _SYNTAX.search(str(error)):
                    return False
    return bool(statements)


_SQL_MORE: Final = (
    (
        r"(?i)\b(collate|glob|regexp|match|isnull|notnull|indexed|returning|replace|abort|fail|ignore)\b",
        "SQLite's own words",
    ),
    (
        r"(?i)\b(begin|end|commit|rollback|savepoint|release|pragma|vacuum|analyze|attach|detach|reindex|explain)\b",
        "other statements",
    ),
    (r"==|<<|>>|->|(?<!\|)\|(?!\|)|&|~|`|[$@#]|\?\d", "SQLite's operators, other parameters"),
    (r"0[xX]|\d_|[xX]'", "numbers in other bases, blobs"),
    (r"[^\x00-\x7f]", "other scripts"),
)


def _sql_left_out(text: str, ours: bool) -> str | None:
    if ours:
        return None
    return next((why for pattern, why in _SQL_MORE if re.search(pattern, text)), None)


def _sqlglot(_: Path | None) -> Reader:
    module = import_module("sqlglot")
    import_module("logging").getLogger("sqlglot").setLevel("CRITICAL")
    return raising(
        lambda text: module.parse(text, error_level=module.ErrorLevel.RAISE),
        module.errors.SqlglotError,
    )


def _sqlglot_left_out(text: str, ours: bool) -> str | None:
    """What ours and SQLite read alike is the reference's own."""
    return "SQLite refuses it, too" if not _sqlite(text) else "SQLite accepts it, too"


def _sql_name(rng: random.Random) -> str:
    return rng.choice(["a", "b", "t", "people", "x1", '"a b"', "key", "first", "s.t"])


def _sql_expression(rng: random.Random, depth: int = 2) -> str:
    pick = rng.choice
    if depth == 0:
        return pick(["1", "'a'", "NULL", "a", "t.a", "2.5e3", "?", "count(*)", '"q"', "TRUE", "-1"])
    left, right = (_sql_expression(rng, depth - 1) for _ in range(2))
    shapes = [
        "{} + {}", "{} = {}", "({} AND {})", "({} OR NOT {})", "f({}, {})", "{} || {}", "({} IS NOT NULL)",
        "({} BETWEEN {} AND 2)", "({} IN ({}, 3))", "({} LIKE {})", "CASE {} WHEN {} THEN 1 ELSE 2 END",
        "CAST({} AS VARCHAR(10))", "EXISTS (SELECT {})", "sum({}) OVER (PARTITION BY {} ORDER BY a)",
    ]  # fmt: skip
    return pick(shapes).format(left, right)


def _sql_text(rng: random.Random) -> str:
    def e() -> str:
        return _sql_expression(rng, rng.randint(0, 2))

    n = functools.partial(_sql_name, rng)
    pick = rng.choice
    where = pick(["", f" WHERE {e()}"])
    query = (
        f"SELECT {pick(['', 'DISTINCT '])}{e()} AS c, {e()} FROM {n()}{pick([' x', ' AS y', ''])}"
    )
    query += pick(["", f" LEFT JOIN {n()} ON {e()}", f", {n()}", f" JOIN {n()} USING (a)"]) + where
    query += pick(
        ["", f" GROUP BY {e()} HAVING {e()}", f" ORDER BY {e()} DESC", " LIMIT 5 OFFSET 2"]
    )
    column = f"{pick(['a', 'b'])} INTEGER{pick(['', ' NOT NULL', ' PRIMARY KEY', ' DEFAULT 0'])}"
    return pick(
        [
            query,
            query,
            f"WITH q AS ({query}) {query};",
            f"{query} UNION ALL {query}",
            f"INSERT INTO t (a, b) VALUES ({e()}, {e()});",
            f"UPDATE t SET a = {e()}, b = {e()}{where}",
            f"DELETE FROM t{where}; {query}",
            f"CREATE TABLE IF NOT EXISTS t ({column}, c TEXT CHECK ({e()}), UNIQUE (c))",
            f"CREATE TABLE t ({column} REFERENCES u (c) ON DELETE CASCADE, FOREIGN KEY (b) REFERENCES v)",
            f"CREATE UNIQUE INDEX i ON t (a DESC, b){where}",
            f"CREATE VIEW v AS {query}",
            pick(
                [
                    "DROP TABLE IF EXISTS t",
                    "ALTER TABLE t ADD COLUMN c INT",
                    "ALTER TABLE t RENAME TO u",
                ]
            ),
        ]
    )


# -- GraphQL ---------------------------------------------------------------------------------------


def _graphql(_: Path | None) -> Reader:
    module = import_module("graphql")
    return raising(
        lambda text: module.parse(text, no_location=True), module.GraphQLError, RecursionError
    )


_GRAPHQL_DOCUMENTS: Final = (
    '{ a(x: 1, y: [1.5e3, "s", null, true, E]) { ...F @include(if: $v) b: c } }',
    "query Q($id: ID! = 3, $l: [Int!]! @d) @e(a: {b: $id}) { n(id: $id) { ... on U { x } ... { x } } }",
    "mutation { set(o: {k: [], v: {}}) { ok } } subscription S { s }",
    "fragment F on T @d { a b c }",
    '"""A \\""" block""" type T implements A & B @k(f: "id") { "d" a(x: Int = 1): [T!]! b: U @x }',
    "interface I implements J { a: Int } scalar Date @s(by: 1) union U @d = | A | B",
    "enum E @d { A B @deprecated(reason: \"no\") } input In { a: Int = 3 @d, b: [E] }",
    "directive @d(a: Int = 1) repeatable on | FIELD | OBJECT directive @e on QUERY",
    "schema @a { query: Q mutation: M } extend schema @b extend type T { c: Int } extend union U = C",
    "extend scalar S @d extend enum E { C } extend input In @i extend interface I implements K",
)  # fmt: skip


def _graphql_text(rng: random.Random) -> str:
    text = rng.choice([" ", "\n"]).join(rng.sample(_GRAPHQL_DOCUMENTS, rng.randint(1, 3)))
    return text if rng.random() < 0.5 else re.sub(r" (?=[{}()\[\]:=!|&@])|(?<=[{(\[:]) ", "", text)


_GRAPHQL_MORE: Final = (
    (r"\\u\{|\\u[dD][89a-bA-B]", "escapes of later editions"),
    (r"\{[\s,]*\}", "braces with nothing in them"),
    (r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "control characters"),
    (
        r'"\s*(\{|query|mutation|subscription|fragment)\b',
        "descriptions of operations, of later editions",
    ),
    (r'[\])}"!][\w"]|\w"|[\w\]}"]-|\w\$|[\w)\]}"][\[{]', "parts that touch"),
)


def _graphql_left_out(text: str, ours: bool) -> str | None:
    if re.search(r"\\u[dD][89a-fA-F]", text):
        return "the reference wants surrogates in pairs"
    if ours:
        return None
    return next((why for pattern, why in _GRAPHQL_MORE if re.search(pattern, text)), None)


# -- Cypher ----------------------------------------------------------------------------------------


def _graphglot(_: Path | None) -> Reader:
    dialect = import_module("graphglot.dialect").Dialect.get_or_raise("neo4j")
    fault = import_module("graphglot.error").GraphGlotError
    return raising(dialect.parse, fault, ValueError, ArithmeticError, LookupError, AttributeError)


def _antlr_cypher(_: Path | None) -> Reader:
    antlr4 = import_module("antlr4")
    listener_class: Any = import_module("antlr4.error.ErrorListener").ErrorListener
    made = import_module("antlr4_cypher")

    class Raising(listener_class):  # type: ignore[misc]
        def syntaxError(self, *said: Any) -> None:  # noqa: N802
            raise ValueError(said)

    def parse(text: str) -> None:
        lexer = made.CypherLexer(antlr4.InputStream(text))
        parser = made.CypherParser(antlr4.CommonTokenStream(lexer))
        for part in (lexer, parser):
            part.removeErrorListeners()
            part.addErrorListener(Raising())
        parser.script()

    return raising(parse)


def _antlr_cypher_left_out(text: str, ours: bool) -> str | None:
    if ours and re.search(r"(?i)\bunion\b", text):
        return "UNION, which the reference misreads"
    if ours and re.search(r"-\.?\d", text):
        return "a minus that touches a number, which the reference takes for its sign"
    if ours and re.search(r"//[^\n]*\r|//[^\n]*$", text):
        return "comments, which the reference wants to end in a line feed"
    if ours and re.search(
        r"(?is)\bwith\b(?!.*\b(match|unwind|call|create|merge|set|delete|remove)\b.*\bwith\b).*\bwith\b",
        text,
    ):
        return "WITH behind WITH, which the reference refuses"
    return None


def _cypher_expression(rng: random.Random, depth: int = 2) -> str:
    if depth == 0:
        return rng.choice(
            [
                "1",
                "n.age",
                "'a\\n'",
                '"b"',
                "$p",
                "true",
                "null",
                "[1, 2]",
                "{a: 1}",
                "-1",
                "count(*)",
            ]
        )
    a, b = (_cypher_expression(rng, depth - 1) for _ in range(2))
    shapes = [
        "{} + {}", "{} = {}", "({} AND {})", "({} OR NOT {})", "f({}, {})", "{} <> {}", "{} IS NOT NULL",
        "({}) STARTS WITH {}", "{} IN [{}]", "[x IN {} WHERE {} | x]", "CASE WHEN {} THEN {} ELSE 0 END",
        "any(x IN {} WHERE {})", "({} XOR {})", "collect(DISTINCT {})", "[{}, {}][0]", "xs[1..{}]",
    ]  # fmt: skip
    return rng.choice(shapes).format(a, b)


def _cypher_text(rng: random.Random) -> str:
    def e() -> str:
        return _cypher_expression(rng, rng.randint(0, 2))

    pick = rng.choice
    node = pick(["(n)", "(n:Person)", "(:A:B)", "()", "(n {a: 1})", "(m:Person {name: $x})"])
    edge = pick(
        [
            "-->",
            "<--",
            "--",
            "-[r]->",
            "<-[:KNOWS|LIKES]-",
            "-[r:R*1..3 {a: 1}]->",
            "-[*]-",
            "-[*..2]-",
        ]
    )
    match = f"{pick(['MATCH', 'OPTIONAL MATCH', 'match'])} {pick(['', 'p = '])}{node}{edge}(k)"
    match += pick(["", f" WHERE {e()}", ", (z)"])
    returns = f"RETURN {pick(['', 'DISTINCT '])}{e()} AS x, {e()}"
    returns += pick(["", " ORDER BY x DESC, n.b SKIP 1 LIMIT 10", f" LIMIT {e()}"])
    update = pick(
        [
            f"CREATE {node}-[:R]->(b)",
            f"MERGE {node} ON CREATE SET n.a = {e()} ON MATCH SET n += {{b: 1}}",
            f"SET n.a = {e()}, n:Label",
            "DETACH DELETE n, m",
            "REMOVE n.a, n:Label",
        ]
    )
    middle = f"WITH n, {e()} AS y WHERE {e()}"
    return pick(
        [
            f"{match} {returns}",
            f"{match}\n{middle}\n{match} {returns};",
            f"UNWIND {e()} AS u {returns}",
            f"{match} {update}",
            f"{match} {update} {update} {returns}",
            f"CALL db.labels() YIELD label {returns}",
            f"{returns} UNION ALL {match} {returns}",
            f"{update} // done",
        ]
    )


# -- references in JavaScript ----------------------------------------------------------------------

_SERVER: Final = """
const lines = require('readline').createInterface({input: process.stdin});
(async () => {
  const reads = await (%s)();
  console.log('ready');
  for await (const line of lines) {
    let accepted = false;
    try { accepted = await reads(JSON.parse(line)); } catch (error) { accepted = false; }
    console.log(accepted ? 'yes' : 'no');
  }
})();
"""


def _node_reader(node: Path | None, script: str) -> Reader:
    """A reader in a process of node, one line of JSON a text.

    Args:
        node: a folder with ``node_modules``.
        script: a function that makes the reader.
    """
    if node is None or shutil.which("node") is None:
        raise ImportError("node, or --node", name="node")
    process = subprocess.Popen(
        ["node", "-e", _SERVER % script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=node,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise ImportError("packages of node", name="packages of node")
    atexit.register(process.kill)
    write, read = process.stdin, process.stdout

    def reads(text: str) -> bool:
        write.write(json.dumps(text) + "\n")
        write.flush()
        answer = read.readline().strip()
        if answer not in ("yes", "no"):
            raise RuntimeError(f"node answers {answer!r}")
        return answer == "yes"

    return reads


_TYPESCRIPT: Final = """async () => {
  const ts = require('typescript');
  const kind = ts.SyntaxKind;
  const kinds = [kind.TypeAliasDeclaration, kind.InterfaceDeclaration, kind.EnumDeclaration];
  return text => {
    const file = ts.createSourceFile('a.ts', text, ts.ScriptTarget.Latest);
    return file.parseDiagnostics.length === 0 && file.statements.every(s => kinds.includes(s.kind));
  };
}"""


def _typescript(node: Path | None) -> Reader:
    return _node_reader(node, _TYPESCRIPT)


def _ts_type(rng: random.Random, depth: int = 3) -> str:
    pick = rng.choice
    if depth == 0:
        return pick(
            [
                "string",
                "number",
                "null",
                "'a'",
                "-1",
                "T",
                "A.B",
                "typeof x",
                "10n",
                "`a${T}b`",
                "any",
            ]
        )
    a, b, c = (_ts_type(rng, depth - 1) for _ in range(3))
    shapes = [
        "{a} | {b}", "{a} & {b}", "({a})[]", "[{a}, {b}?]", "[x: {a}, ...y: {b}[]]", "Map<{a}, {b}>",
        "{{ a: {a}; readonly b?: {b} }}", "{{ [k: string]: {a} }}",
        "{{ m<T>(x: {a}, ...r: {b}[]): {c}; new (): {c} }}",
        "((x: {a}, y?: {b}) => {c})", "(new () => {a})", "({a} extends infer U ? {b} : {c})", "keyof {a}",
        "{{ readonly [K in keyof T]?: {a} }}", "{{ -readonly [K in T as {a}]-?: {b} }}", "T[{a}]",
        "readonly ({a})[]",
        "((x: any) => x is {a})", "((this: T) => asserts this is {a})",
    ]  # fmt: skip
    return pick(shapes).format(a=a, b=b, c=c)


def _ts_text(rng: random.Random) -> str:
    t = functools.partial(_ts_type, rng, 2)
    shapes = [
        f"type A = {t()};",
        f"export type A<T extends {t()} = {t()}> = {t()};",
        f"interface I<T> extends J, K<{t()}> {{ a: {t()}; b?(x: {t()}): {t()}, }}",
        f"interface L {{\n  a: {t()}\n  b: {t()} // c\n  (x: {t()}): void\n}}",
        f"type B = {t()}",
        f"declare interface I {{ 'a-b': {t()}; 1: {t()} }}",
        "const enum E { A, B = 3, C = 'x', }",
    ]
    return "\n".join(rng.choice(shapes) for _ in range(rng.randint(1, 3)))


_TS_MORE: Final = (
    (r"//|/\*", "comments in front of words that no line may end before"),
    (r"[^\x00-\x7f]", "names beyond ASCII"),
    (r"\\[u0-9x\r\n]", "other escapes"),
    (
        r"\b(get|set|import|accessor|in|out|const|async|static|public|private|protected|override|module|namespace|global|declare|export|default)\b",
        "modifiers, getters, import types",
    ),
    (r"[;}]?\s*\n|[\]}\w]\s*$|;\s*;|[\w)\]}'\"`>]\s+[\w\[('\"<]", "line ends for semicolons"),
    (r"(?<![\w.])[\w$]+(?=[^\w\s$])|[^\w\s$.](?=[a-z])", "words that touch"),
)


def _ts_left_out(text: str, ours: bool) -> str | None:
    if ours:
        return None
    return next((why for pattern, why in _TS_MORE if re.search(pattern, text)), None)


# -- Mermaid ---------------------------------------------------------------------------------------

_MERMAID: Final = """async () => {
  const {JSDOM} = require('jsdom');
  global.window = new JSDOM('').window;
  global.document = global.window.document;
  const mermaid = (await import('mermaid')).default;
  return async text => (await mermaid.parse(text)).diagramType.startsWith('flowchart');
}"""


def _mermaid(node: Path | None) -> Reader:
    return _node_reader(node, _MERMAID)


_MERMAID_NODES: Final = (
    "A", "b1", "C[text]", "D(round text)", "E([x y])", "F[[sub]]", "G[(db)]", "H((circle))", "I(((double)))",
    "J>flag]", "K{choice?}", "L{{hex}}", "M[/lean/]", "N[\\lean\\]", "P[/trap\\]", "R:::red",
    'Q["a (quoted) [text]"]',
)  # fmt: skip
_MERMAID_LINKS: Final = (
    "-->", "---", "-.->", "==>", "--x", "o--o", "<-->", "-- yes -->", "== a b ===", "-. dots .->", "~~~",
    "---->", "-->|text|", '==>|"a|b"|', "-.-", "===",
)  # fmt: skip


def _mermaid_left_out(text: str, ours: bool) -> str | None:
    return "styles of links that are not there" if ours and "linkStyle" in text else None


def _mermaid_text(rng: random.Random) -> str:
    pick = rng.choice

    def chain() -> str:
        nodes = [pick(_MERMAID_NODES) for _ in range(rng.randint(1, 4))]
        return functools.reduce(lambda a, b: f"{a} {pick([*_MERMAID_LINKS, '&'])} {b}", nodes)

    lines = [f"{pick(['graph', 'flowchart'])}{pick([' TD', ' LR', ''])}"]
    for _ in range(rng.randint(1, 5)):
        lines.append(
            pick(
                [
                    chain(),
                    chain(),
                    f"subgraph s1 [A title]\n  direction LR\n  {chain()}\n  end",
                    f"subgraph {pick(['s2', 'x1', ''])}\n{chain()}\nend",
                    "style A fill:#f9f,stroke:#333,stroke-width:4px",
                    "classDef red fill:red\n class A,C red",
                    "linkStyle 0 stroke:#ff3,stroke-width:4px",
                    'click A "https://example.org" "tip" _blank',
                    "%% a comment",
                ]
            )
        )
    return pick(["\n", "\n  "]).join(lines) + pick(["", "\n"])


# -- Python, C -------------------------------------------------------------------------------------


def _python(text: str) -> bool:
    """Whether Python's own parser reads a module; the last line has to end."""
    last = re.split(r"[\r\n]", text)[-1]
    if last.strip(" \t\f") and (last == text or last.lstrip(" \t")[0] != "#"):
        return False
    return raising(ast.parse, SyntaxError, ValueError, RecursionError, MemoryError)(text)


@cache
def _python_functions() -> tuple[str, ...]:
    """Top-level statements of a quarter of the standard library, as they are written there."""
    import sysconfig

    found = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[::4]:
        text = path.read_text("utf-8")
        lines = text.splitlines(keepends=True)
        for node in ast.parse(text).body:
            written = "".join(lines[node.lineno - 1 : node.end_lineno])
            if 10 < len(written) < 1_500:
                found.append(written)
    return tuple(found)


def _python_text(rng: random.Random) -> str:
    return "".join(rng.choice(_python_functions()) for _ in range(rng.randint(1, 2)))


def _python_left_out(text: str, ours: bool) -> str | None:
    if not ours:
        if re.search(r"[^\x00-\x7f]", text):
            return "other scripts"
        if re.search(r"(?<!\r)\r(?!\n)|\x0c", text):
            return "carriage returns alone, form feeds"
        if re.search(r"\d(if|else|and|or|in|is|for|not)\b|0_|\\$", text):
            return "numbers that touch words"
        if re.search(r"[^\r\n]$|\\\r?\n$", text):
            return "a last line without a line end"
        return None
    if re.search(r"(^|\n)[ \t]*\\|^[ \t\f]", text):
        return "blanks and joined lines at the beginning"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError as error:
        said = error.msg or ""
        for words, why in (
            ("f-string", "f-strings"),
            ("unicode error", "escapes"),
            ("value error", "escapes"),
            ("bytes can only", "bytes beyond ASCII"),
            ("cannot mix bytes", "bytes beside text"),
            ("too many nested", "depth"),
        ):
            if words in said:
                return why
        return None
    except (ValueError, RecursionError, MemoryError):
        return "null bytes, depth"
    return None


def _pycparser(_: Path | None) -> Reader:
    """The parser of C99, with a few names of types; directives are taken out as comments are."""
    module = import_module("pycparser.c_parser")
    fault = getattr(module, "ParseError", None) or import_module("pycparser.plyparser").ParseError

    def parse(text: str) -> None:
        module.CParser().parse("typedef int size_t; typedef int node;\n" + _c_plain(text))

    return raising(parse, fault, AssertionError)


def _c_plain(text: str) -> str:
    """A program without comments and directives."""
    joined = re.sub(r"\\\r?\n", "", text)
    lines = _C_COMMENT.sub(lambda found: found[1] or " ", joined).split("\n")
    return "\n".join(re.sub(r"^[ \t]*#.*", "", line) for line in lines).replace("\r", " ")


_C_TYPES: Final = {"types": ["size_t", "node"]}
_C_COMMENT: Final = re.compile(
    r"(\"(?:[^\"\\\n]|\\[^\n])*\"|'(?:[^'\\\n]|\\[^\n])*')|/\*.*?\*/|//[^\n]*", re.DOTALL
)
_C_TEXTS: Final = (
    "int f(int a, char *b) { return a + *b; }",
    "static const unsigned long x = 3UL, *y[4];",
    "struct point { int x, y; struct point *next; };",
    "typedef struct { double re, im; } complex_t;",
    "enum colour { RED, GREEN = 3, BLUE, };",
    "int g(void) { for (int i = 0; i < 10; i++) { if (i % 2) continue; else break; } return 0; }",
    "size_t h(const char *s) { size_t n = 0; while (*s++) n++; return n; }",
    "int k(int n) { switch (n) { case 1: return 2; default: break; } do { n--; } while (n > 0); return n; }",
    "int (*handler)(int, const char *);",
    "int a[2][2] = { { 1, 2 }, [1] = { .5, 4 } };",
    "void m(void) { x = (struct point){ 1, 2 }; p->next.value[i] = sizeof(int) + sizeof x; }",
    "int q(int x) { return x ? x > 0 ? 1 : -1 : ~x & 0xFF << 2; } /* comment */",
    'char c = \'\\n\', s[] = "say \\"hi\\"" "more"; // end\n',
    "void r(int n, ...) { goto end; end: ; n <<= 1, n ^= 2; }",
)


def _c_text(rng: random.Random) -> str:
    return rng.choice([" ", "\n"]).join(rng.choice(_C_TEXTS) for _ in range(rng.randint(1, 3)))


def _c_left_out(text: str, ours: bool) -> str | None:
    if ours:
        nothing = re.search(
            r"\b(void|char|short|int|long|float|double|\w+ed|_\w+|const|volatile|restrict|size_t|node)\s*;",
            _c_plain(text),
        )
        return "declarations of nothing (int;), which the reference refuses" if nothing else None
    if re.search(r"\d\[|\d\s*(\+\+|--|\.|->)|\d\(|}\w|\w+\s*\([\w\s,]*\)\s*\w[^;{]*;|:\s*\d", text):
        return "tails of numbers, bit fields, old-style parameters"
    if re.search(
        r"[LuU]8?['\"]|0[xX][\w.]*[pP]|<:|%:|\?\?|_Generic|_Alignas|_Static|_Atomic|_Pragma", text
    ):
        return "prefixes, hexadecimal floats, digraphs, parts of C11"
    return None


REFERENCES: Final[list[tuple[str, Reference]]] = [
    ("sql", Reference("sqlite3", plain(_sqlite), _sql_text, _sql_left_out, wider=True)),
    ("sql", Reference("sqlglot", _sqlglot, _sql_text, _sqlglot_left_out, wider=True)),
    ("graphql", Reference("graphql-core", _graphql, _graphql_text, _graphql_left_out)),
    (
        "cypher",
        Reference("antlr4-cypher", _antlr_cypher, _cypher_text, _antlr_cypher_left_out, wider=True),
    ),
    ("typescript_types", Reference("typescript", _typescript, _ts_text, _ts_left_out)),
    ("mermaid", Reference("mermaid", _mermaid, _mermaid_text, _mermaid_left_out, wider=True)),
    ("python", Reference("ast", plain(_python), _python_text, _python_left_out)),
    (
        "c",
        Reference("pycparser", _pycparser, _c_text, _c_left_out, wider=True, parameters=_C_TYPES),
    ),
]
"""Grammars and what they are compared with; a grammar may stand here more than once."""
