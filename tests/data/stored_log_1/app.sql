BEGIN TRANSACTION;
CREATE TABLE item (a);
INSERT INTO "item" VALUES(1);
CREATE TABLE last (a);
INSERT INTO "last" VALUES(1);
CREATE TABLE more (a);
INSERT INTO "more" VALUES(1);
CREATE TABLE tags (a);
INSERT INTO "tags" VALUES(1);
CREATE TABLE twinstep_ledger (
    "migration" TEXT NOT NULL,
    "direction" TEXT NOT NULL,
    "step" INTEGER NOT NULL,
    "run" TEXT NOT NULL,
    "undoes" TEXT NOT NULL,
    "steps" INTEGER NOT NULL,
    "state" TEXT NOT NULL,
    "pair" TEXT NOT NULL,
    "log" TEXT NOT NULL,
    "token" TEXT NOT NULL,
    "checksum" TEXT NOT NULL,
    "applied_at" TEXT NOT NULL,
    "stream_version" INTEGER NOT NULL,
    "stream_hash" TEXT NOT NULL,
    "before" TEXT NOT NULL,
    "down" TEXT NOT NULL,
    "content" TEXT NOT NULL,
    PRIMARY KEY ("migration", "direction", "step", "run", "undoes")
);
INSERT INTO "twinstep_ledger" VALUES('0001_tags','up',1,'01a218a9-ce62-74f4-9438-644e48ab93dc','',1,'done','01a218a9-cdc7-7047-b779-35c7e1051b53','01a218a9-cd87-72bc-a594-49c22fe2b9d1','efff9ccc106140eba00206dded60e027','1:f2bed0d38959365ce2e18f8f561ed3321865dbd8918ba64c182b88abc2bda621','2026-11-26T16:21:51.837141+00:00',3,'5e08b38d0c48ce5c198d096082a2c4fb2c48d490a9212ec2fef75a35054bbf6c','{"marks": {"application_id": 0, "user_version": 0}, "statistics": null}','[{"sql": "DROP TABLE tags", "line": 1, "words": ["DROP", "TABLE", "TAGS"]}]','{"content":{"item":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6","tags":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6"},"marks":{"application_id":0,"user_version":0},"objects":{"table item":"aa4f8674e893e13e","table tags":"d7e8a9184028fcf9"},"rows":{"item":1,"tags":1}}');
INSERT INTO "twinstep_ledger" VALUES('0002_more','up',1,'01a218a9-d3dd-7385-b73c-01ef5902f943','',1,'done','01a218a9-cdc7-7047-b779-35c7e1051b53','01a218a9-cd87-72bc-a594-49c22fe2b9d1','bbb0c19d19bd42728439e7a7f5c4cc13','1:dd23cab7d37f1a4dccc0efaf60c7cc365f4a3cf51f0fefd23840cad8146e3a3d','2026-11-26T16:21:52.985430+00:00',3,'d03056c95f256968c8568ebf4e328cf5893d18c87fd2b63c7601dff2944495bb','{"marks": {"application_id": 0, "user_version": 0}, "statistics": null}','[{"sql": "DROP TABLE more", "line": 1, "words": ["DROP", "TABLE", "MORE"]}]','{"content":{"item":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6","more":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6","tags":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6"},"marks":{"application_id":0,"user_version":0},"objects":{"table item":"aa4f8674e893e13e","table more":"0d807d0be6afbc30","table tags":"d7e8a9184028fcf9"},"rows":{"item":1,"more":1,"tags":1}}');
INSERT INTO "twinstep_ledger" VALUES('0002_more','down',1,'01a218a9-d789-7106-a9c6-a4f66cea65ea','01a218a9-d3dd-7385-b73c-01ef5902f943',1,'done','01a218a9-cdc7-7047-b779-35c7e1051b53','01a218a9-cd87-72bc-a594-49c22fe2b9d1','2fc4ea2e061b4abe8f68a52e337b7593','1:dd23cab7d37f1a4dccc0efaf60c7cc365f4a3cf51f0fefd23840cad8146e3a3d','2026-11-26T16:21:53.925584+00:00',10,'78fa97a263854c3fe054505b5abcc63d7f22d8a28066789b613150e84fdf99a2','{"findings": [], "found": null, "how": "down", "others_wrote": false, "replaced": null}','null','{"content":{"item":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6","tags":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6"},"marks":{"application_id":0,"user_version":0},"objects":{"table item":"aa4f8674e893e13e","table tags":"d7e8a9184028fcf9"},"rows":{"item":1,"tags":1}}');
INSERT INTO "twinstep_ledger" VALUES('0002_more','up',1,'01a218a9-d9f9-7256-9630-35ed8384c46a','',1,'done','01a218a9-cdc7-7047-b779-35c7e1051b53','01a218a9-cd87-72bc-a594-49c22fe2b9d1','7aadbb4f0a5049f2bf3e0766ff2f1575','1:dd23cab7d37f1a4dccc0efaf60c7cc365f4a3cf51f0fefd23840cad8146e3a3d','2026-11-26T16:21:54.491984+00:00',15,'9d2ee2e74e0a5f3ef624151d2b01d6094465f493baaba384d9286dd2319ddd6d','{"marks": {"application_id": 0, "user_version": 0}, "statistics": null}','[{"sql": "DROP TABLE more", "line": 1, "words": ["DROP", "TABLE", "MORE"]}]','{"content":{"item":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6","more":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6","tags":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6"},"marks":{"application_id":0,"user_version":0},"objects":{"table item":"aa4f8674e893e13e","table more":"0d807d0be6afbc30","table tags":"d7e8a9184028fcf9"},"rows":{"item":1,"more":1,"tags":1}}');
INSERT INTO "twinstep_ledger" VALUES('','head',0,'','',0,'done','01a218a9-cdc7-7047-b779-35c7e1051b53','01a218a9-cd87-72bc-a594-49c22fe2b9d1','ff97f77d2b67428a82760b060e04a7af','','2026-11-26T16:21:55.206610+00:00',0,'','{}','null','');
INSERT INTO "twinstep_ledger" VALUES('0003_last','up',1,'01a218a9-dcd6-7191-898a-1b359bfdbddb','',1,'done','01a218a9-cdc7-7047-b779-35c7e1051b53','01a218a9-cd87-72bc-a594-49c22fe2b9d1','ff97f77d2b67428a82760b060e04a7af','1:8fe315a32cc49f633f19463440efa92787900d0ccd7eab60d04a680d93999eee','2026-11-26T16:21:55.206518+00:00',3,'ed322516d4d95a45a07cea416e8def82b078f5e60af0076dcf02b28f7b48110c','{"marks": {"application_id": 0, "user_version": 0}, "statistics": null}','[{"sql": "DROP TABLE last", "line": 1, "words": ["DROP", "TABLE", "LAST"]}]','{"content":{"item":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6","last":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6","more":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6","tags":"30b32cb61bb6d5fbb670629e5ca177f3caf2982506b8083d63a296d30d6c2ec6"},"marks":{"application_id":0,"user_version":0},"objects":{"table item":"aa4f8674e893e13e","table last":"638801aca67d98da","table more":"0d807d0be6afbc30","table tags":"d7e8a9184028fcf9"},"rows":{"item":1,"last":1,"more":1,"tags":1}}');
COMMIT;
