-- statements: 14
-- Names and strings that look like something else. Ä, 日本, 😀; and a comment with 'quotes" and `more` and [brackets].
CREATE TABLE "select; from" ("a""b;" INTEGER, [c d;] TEXT, `e``f;` TEXT, 'g;' TEXT, "--h" TEXT, "/*i*/" TEXT, 日本 TEXT);
CREATE TABLE [begin] ([end] INTEGER, [case] TEXT, "trigger" TEXT, `create` TEXT);
INSERT INTO "select; from" VALUES (1, 'it''s;', '--no comment', '/* none; */', "a string; if there is no such column", '\', '語;😀');
INSERT INTO [begin] ([end], [case]) VALUES (1, 'end;'), (2--2;
  , 'after a comment'), (3 /* ; */, 'x' || /* ' */ ';');
CREATE TRIGGER [begin; after] AFTER INSERT ON [begin] WHEN NEW.[end] > 0 BEGIN
  UPDATE [begin] SET "trigger" = 'END;' WHERE [end] = NEW.[end];
  UPDATE "begin" SET `create` = CASE [case] WHEN 'end;' THEN 'begin;' ELSE "trigger" END; -- END;
END;
create trigger if not exists 'a string; as a name' before delete on "begin" begin select 1; end;
INSERT INTO "begin" VALUES (4, 'four', NULL, NULL);
DELETE FROM "begin" WHERE "end" = 4;
SELECT 1;;; SELECT 2 ; ; /* nothing */ ; SELECT 3--
;
SELECT x'0A', 0x1F, 1e-5, .5, 5 % 3, 1 << 2, ~1, 'a' LIKE '%;' ESCAPE '\', '{"a": [1, ";"]}' ->> '$.a[1]', 'b' NOT GLOB '[;]*';
CREATE TEMP TABLE "only; here" AS SELECT * FROM "select; from";
DROP TABLE IF EXISTS [not there; at all]
