-- A value: literal bytes, or parts put together. p_sums and p_lasts: by key and topic, what the commit has just made.
CREATE OR REPLACE FUNCTION tollgate_render_1(p_template jsonb, p_bytes bytea, p_sums jsonb, p_lasts jsonb, p_at bigint)
RETURNS bytea LANGUAGE sql IMMUTABLE AS $render$
  SELECT CASE jsonb_typeof(p_template -> 0)
    WHEN 'number' THEN substr(p_bytes, (p_template ->> 0)::integer, (p_template ->> 1)::integer)
    ELSE (
      SELECT coalesce(string_agg(
        CASE WHEN jsonb_typeof(p.value -> 0) = 'number'
          THEN substr(p_bytes, (p.value ->> 0)::integer, (p.value ->> 1)::integer)
          ELSE convert_to(CASE p.value ->> 0
            WHEN 'sum' THEN p_sums ->> (p.value ->> 1)
            WHEN 'sequence' THEN ((p_lasts ->> (p.value ->> 1))::bigint - (p.value ->> 2)::bigint)::text
            ELSE p_at::text
          END, 'UTF8')
        END, ''::bytea ORDER BY p.n), ''::bytea)
      FROM jsonb_array_elements(p_template) WITH ORDINALITY AS p(value, n))
  END
$render$
