CASE json_type(template, '$[0]')
  WHEN 'integer' THEN substr(NEW.bytes, template ->> 0, template ->> 1)
  ELSE (
    SELECT coalesce(CAST(group_concat(
      CASE p.value ->> 0
        WHEN 'sum' THEN (SELECT e.value FROM entries AS e WHERE e.key = p.value ->> 1)
        WHEN 'sequence' THEN (SELECT t.last - (p.value ->> 2) FROM topics AS t WHERE t.name = p.value ->> 1)
        WHEN 'time' THEN NEW.now
        ELSE substr(NEW.bytes, p.value ->> 0, p.value ->> 1)
      END, '' ORDER BY p.key) AS BLOB), x'')
    FROM json_each(template) AS p)
END
