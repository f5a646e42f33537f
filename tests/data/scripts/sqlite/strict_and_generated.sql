-- statements: 19
-- Tables of every kind, keys of every kind, expressions where they may stand.
CREATE TABLE accounts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  code TEXT NOT NULL COLLATE NOCASE UNIQUE ON CONFLICT REPLACE,
  balance INTEGER NOT NULL DEFAULT 0 CHECK (balance >= -900 /* ; */),
  data BLOB DEFAULT x'00ff',
  anything ANY
) STRICT;
CREATE TABLE entries (
  account INTEGER NOT NULL REFERENCES accounts (id) ON UPDATE CASCADE ON DELETE RESTRICT,
  number INTEGER NOT NULL,
  amount REAL NOT NULL,
  cents INTEGER GENERATED ALWAYS AS (CAST(round(amount * 100) AS INTEGER)) STORED,
  label TEXT AS (CASE WHEN amount < 0 THEN 'out;' ELSE 'in;' END) VIRTUAL,
  PRIMARY KEY (account, number),
  CONSTRAINT "not; zero" CHECK (amount <> 0)
) WITHOUT ROWID, STRICT;
CREATE TABLE copies AS SELECT 1 AS a, 'b;' AS "c;";
CREATE INDEX entries_large ON entries (account, abs(amount) DESC) WHERE amount > 100 OR label = 'in;';
CREATE UNIQUE INDEX IF NOT EXISTS "entries; cents" ON entries (cents, account, number);
CREATE VIEW balances (code, total) AS
  SELECT a.code, sum(e.cents) FILTER (WHERE e.label <> ';') FROM accounts AS a LEFT JOIN entries AS e ON e.account = a.id GROUP BY a.id;
CREATE TRIGGER balances_put INSTEAD OF INSERT ON balances FOR EACH ROW WHEN NEW.total IS NOT NULL BEGIN
  INSERT OR IGNORE INTO accounts (code) VALUES (NEW.code);
  INSERT INTO entries (account, number, amount)
    SELECT id, (SELECT count(*) FROM entries WHERE account = accounts.id) + 1, CASE WHEN NEW.total < 0 THEN -1 ELSE 1 END * abs(NEW.total) / 100.0
    FROM accounts WHERE code = NEW.code;
  UPDATE accounts SET balance = balance + NEW.total WHERE code = NEW.code;
END;
CREATE TRIGGER balances_gone INSTEAD OF DELETE ON balances BEGIN
  SELECT CASE WHEN OLD.total > 0 THEN RAISE(IGNORE) ELSE RAISE(ABORT, 'cannot; end') END;
END;
INSERT INTO balances (code, total) VALUES ('a;', 250), ('b', -300), ('A;', 50);
INSERT INTO accounts (code, anything) VALUES ('c', 1.5), ('d', x'ab') ON CONFLICT DO NOTHING;
REPLACE INTO accounts (id, code) VALUES (40, 'forty');
DELETE FROM accounts WHERE id = 40 RETURNING id, code || ';';
UPDATE OR IGNORE accounts SET code = 'a;' WHERE code = 'b';
WITH RECURSIVE days (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM days WHERE n < 3), more AS MATERIALIZED (SELECT * FROM days)
  INSERT INTO copies SELECT n, printf('%d;', n) FROM more WHERE true ON CONFLICT DO NOTHING;
ALTER TABLE copies RENAME COLUMN "c;" TO "d; e";
ALTER TABLE copies RENAME TO [copies; renamed];
ALTER TABLE [copies; renamed] DROP COLUMN a;
SELECT row_number() OVER win, first_value(code) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM accounts WINDOW win AS (ORDER BY id);
PRAGMA user_version = 7;
