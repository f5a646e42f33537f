-- statements: 18
/* A tenant's tables as a hosted service makes them:
   /* a function for the current user, */ policies for each command, grants, views with barriers. ; */
CREATE SCHEMA auth;
CREATE OR REPLACE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
  )::uuid;
$$;

CREATE TABLE public.profiles (
  id uuid PRIMARY KEY,
  email text UNIQUE CHECK (email ~* '^[^@;]+@[^@;]+$'),
  "display name" text NOT NULL DEFAULT 'nobody; yet',
  deleted boolean NOT NULL DEFAULT false
);
CREATE TABLE public.notes (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES public.profiles (id) ON DELETE CASCADE,
  title text NOT NULL DEFAULT '',
  search tsvector GENERATED ALWAYS AS (setweight(to_tsvector('simple', title), 'A')) STORED
);

ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.notes FORCE ROW LEVEL SECURITY;

CREATE POLICY "Profiles are visible; to their owners" ON public.profiles AS PERMISSIVE FOR SELECT USING (auth.uid() = id);
CREATE POLICY "Nobody's deleted profile" ON public.profiles AS RESTRICTIVE FOR SELECT USING (NOT deleted);
CREATE POLICY notes_select ON public.notes FOR SELECT TO PUBLIC USING (user_id = (SELECT auth.uid()));
CREATE POLICY notes_insert ON public.notes FOR INSERT WITH CHECK (
  user_id = auth.uid()
  AND EXISTS (SELECT 1 FROM public.profiles AS p WHERE p.id = user_id AND NOT p.deleted)
);
CREATE POLICY notes_update ON public.notes FOR UPDATE USING (user_id = auth.uid()) WITH CHECK (user_id = auth.uid());
ALTER POLICY notes_update ON public.notes RENAME TO "notes; update";

CREATE VIEW public.own_notes WITH (security_barrier = true, security_invoker = on) AS
  SELECT id, title, ts_headline('simple', title, to_tsquery('simple', 'a & b'), 'StartSel = "<b>;", StopSel = "</b>"') AS shown
  FROM public.notes WHERE search @@ plainto_tsquery('simple', 'a')
  WITH LOCAL CHECK OPTION;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;
GRANT SELECT (id, email), UPDATE ("display name") ON public.profiles TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
CREATE INDEX ON public.notes USING gin (search);
