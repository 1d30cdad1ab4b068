-- One commit; nothing at all (no row) while another host has the database: that may begin at any moment. What RETURNING reads, it reads after the trigger, in the same transaction.
INSERT INTO tollgate_commit_3 (body, bytes, now)
SELECT jsonb(?1), ?2,
  max((SELECT value FROM meta WHERE name = 'now'), CAST(round(unixepoch('subsec') * 1000) AS INTEGER))
WHERE (SELECT value FROM meta WHERE name = 'schema') = 1
RETURNING
  (SELECT value FROM meta WHERE name = 'revision'),
  now,
  (SELECT json_group_array(CASE m.value ->> 0
      WHEN 'add' THEN (SELECT CAST(CAST(e.value AS TEXT) AS INTEGER) FROM entries AS e WHERE e.key = m.value ->> 1)
      ELSE 0
    END ORDER BY m.key) FROM json_each(body, '$.mutations') AS m),
  (SELECT json_group_array(t.last - (a.value ->> 1) ORDER BY a.key)
    FROM json_each(body, '$.appends') AS a CROSS JOIN topics AS t ON t.name = a.value ->> 0)
