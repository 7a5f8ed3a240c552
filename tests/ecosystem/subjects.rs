//! What is tried: extensions with an index, drivers, and tools. One line each.

/// An extension: a column of its type or for its operators, an index on it, and a question that the index answers.
pub struct Subject {
    /// Its table.
    pub name: &'static str,
    /// The extension.
    pub extension: &'static str,
    /// Debian's package of it for 15, without what all begin with; empty for contrib, and for what comes with another major.
    pub package: &'static str,
    /// The major it is tried on.
    pub major: i32,
    /// The column's type.
    pub column: &'static str,
    /// The value of row `g`.
    pub value: &'static str,
    /// How the column `v` is indexed.
    pub index: &'static str,
    /// Which rows of table `{t}` are asked for, for each `x` from 0 to 49.
    pub condition: &'static str,
    /// Whether the short run that every change has includes it.
    pub cut: bool,
}

const fn contrib(
    name: &'static str,
    column: &'static str,
    value: &'static str,
    index: &'static str,
    condition: &'static str,
) -> Subject {
    Subject { name, extension: name, package: "", major: 15, column, value, index, condition, cut: true }
}

const fn debian(
    name: &'static str,
    package: &'static str,
    column: &'static str,
    value: &'static str,
    index: &'static str,
    condition: &'static str,
) -> Subject {
    Subject { name, extension: name, package, major: 15, column, value, index, condition, cut: false }
}

const fn cut(subject: Subject) -> Subject {
    Subject { cut: true, ..subject }
}

/// pgvector, which Debian 12 does not have for 15. The settings let its indexes find all that there is.
const fn vector(name: &'static str, index: &'static str) -> Subject {
    Subject {
        name,
        extension: "vector",
        package: "",
        major: 16,
        column: "vector(3)",
        value: "array[sin(g), cos(g * 3), g / 7.0]::float8[]::vector(3)",
        index,
        condition: "id in (select id from {t} order by v <-> array[0, 0, x * 9]::float8[]::vector(3) limit 5)",
        cut: false,
    }
}

/// Every extension that is tried.
pub const SUBJECTS: &[Subject] = &[
    contrib("btree_gin", "int", "g % 500", "gin (v)", "v = x"),
    contrib("btree_gist", "int", "g % 500", "gist (v)", "v between x and x + 3"),
    contrib("hstore", "hstore", "hstore('k' || g % 50, g::text)", "gin (v)", "v ? ('k' || x)"),
    contrib("ltree", "ltree", "('a.b' || g % 50)::ltree", "gist (v)", "v <@ ('a.b' || x)::ltree"),
    contrib(
        "cube",
        "cube",
        "cube(array[g % 100, g % 7])",
        "gist (v)",
        "v <@ cube(array[x, 0], array[x + 2, 7])",
    ),
    contrib(
        "seg",
        "seg",
        "(g % 90 || ' .. ' || g % 90 + 3)::seg",
        "gist (v)",
        "v && (x || ' .. ' || x + 1)::seg",
    ),
    contrib("intarray", "int[]", "array[g % 50, g % 7]", "gist (v gist__int_ops)", "v && array[x]"),
    contrib("pg_trgm", "text", "md5(g::text)", "gin (v gin_trgm_ops)", "v like '%f' || x || '%'"),
    contrib("citext", "citext", "'Name' || g % 50", "btree (v)", "v = ('nAME' || x)::citext"),
    contrib("bloom", "int", "g % 200", "bloom (v)", "v = x"),
    cut(debian(
        "rum",
        "rum",
        "tsvector",
        "to_tsvector('simple', 'all w' || g % 50 || ' y' || g)",
        "rum (v rum_tsvector_ops)",
        "v @@ to_tsquery('simple', 'w' || x)",
    )),
    cut(debian(
        "ip4r",
        "ip4r",
        "ip4r",
        "('10.0.' || g % 200 || '.0/24')::ip4r",
        "gist (v)",
        "v >>= ('10.0.' || x || '.5')::ip4r",
    )),
    debian(
        "prefix",
        "prefix",
        "prefix_range",
        "('4' || g)::prefix_range",
        "gist (v)",
        "v @> ('4' || x || '99')::prefix_range",
    ),
    debian(
        "jsquery",
        "jsquery",
        "jsonb",
        "jsonb_build_object('a', g % 50)",
        "gin (v jsonb_path_value_ops)",
        "v @@ ('a = ' || x)::jsquery",
    ),
    debian(
        "debversion",
        "debversion",
        "debversion",
        "('1.' || g % 50)::debversion",
        "btree (v)",
        "v = ('1.' || x)::debversion",
    ),
    debian(
        "semver",
        "semver",
        "semver",
        "('1.0.' || g % 50)::semver",
        "btree (v)",
        "v = ('1.0.' || x)::semver",
    ),
    debian("pgmp", "pgmp", "mpz", "(g % 50)::mpz", "btree (v)", "v = x::mpz"),
    debian(
        "pg_rational",
        "rational",
        "rational",
        "(g % 50 || '/7')::rational",
        "btree (v)",
        "v = (x || '/7')::rational",
    ),
    debian(
        "pg_sphere",
        "pgsphere",
        "spoint",
        "spoint(radians(g % 360), radians(g % 80))",
        "gist (v)",
        "v <@ scircle(spoint(radians(x), radians(x % 80)), 0.05)",
    ),
    debian(
        "postgis",
        "postgis-3 postgis-3-scripts",
        "geometry",
        "st_makepoint(g % 100, g % 70)",
        "gist (v)",
        "v && st_makeenvelope(x, x, x + 3, x + 3)",
    ),
    debian(
        "hll",
        "hll",
        "hll",
        "hll_add(hll_empty(), hll_hash_integer(g % 50))",
        "btree ((v::text))",
        "v::text = hll_add(hll_empty(), hll_hash_integer(x))::text",
    ),
    vector("hnsw", "hnsw (v vector_l2_ops)"),
    vector("ivfflat", "ivfflat (v vector_l2_ops) with (lists = 10)"),
];

/// A driver: a program in `drivers` that is given a connection string and ends well if all it did came back.
pub struct Driver {
    /// Its program; one in Python must not be named as its package is.
    pub program: &'static str,
    /// Its package in PyPI or npm.
    pub package: &'static str,
    /// Whether the short run includes it.
    pub cut: bool,
}

/// Every driver that is tried.
pub const DRIVERS: &[Driver] = &[
    Driver { program: "with_psycopg.py", package: "psycopg[binary]", cut: true },
    Driver { program: "with_pg8000.py", package: "pg8000", cut: false },
    Driver { program: "with_asyncpg.py", package: "asyncpg", cut: false },
    Driver { program: "node-postgres.mjs", package: "pg", cut: true },
    Driver { program: "postgres.mjs", package: "postgres", cut: false },
    Driver { program: "with_sqlalchemy.py", package: "SQLAlchemy", cut: false },
    Driver { program: "with_django.py", package: "Django", cut: false },
    Driver { program: "knex.mjs", package: "knex", cut: false },
    Driver { program: "sequelize.mjs", package: "sequelize", cut: false },
    Driver { program: "drizzle.mjs", package: "drizzle-orm", cut: false },
];

/// A tool: a script in `tools` that ends well if all it checks is right. It is the superuser's by its environment, and is
/// given a connection string of the owner's.
pub struct Tool {
    /// Its script.
    pub script: &'static str,
    /// A Debian package that it needs, and the program in it, which the script finds by the variable; of Postgres's own none.
    pub package: Option<(&'static str, &'static str, &'static str)>,
    /// Whether the short run includes it.
    pub cut: bool,
}

/// Every tool that is tried.
pub const TOOLS: &[Tool] = &[
    Tool { script: "dump-and-restore.sh", package: None, cut: true },
    Tool { script: "base-backup.sh", package: None, cut: false },
    Tool { script: "maintenance.sh", package: None, cut: false },
    Tool {
        script: "pgbouncer.sh",
        package: Some(("pgbouncer", "usr/sbin/pgbouncer", "PGBOUNCER")),
        cut: false,
    },
];
