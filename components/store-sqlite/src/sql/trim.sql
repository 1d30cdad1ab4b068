-- Removes the messages of NEW.topic up to and with NEW.through, and the entries that go with them. Whoever does it again finds none.
CREATE TRIGGER IF NOT EXISTS tollgate_trim_1_insert INSTEAD OF INSERT ON tollgate_trim_1 BEGIN

  DELETE FROM entries WHERE key IN (
    SELECT '@record' || m.id FROM messages AS m WHERE m.topic = NEW.topic AND m.sequence <= NEW.through);

  UPDATE topics SET bytes = max(bytes - (
    SELECT coalesce(sum(@weight), 0) FROM messages AS m WHERE m.topic = NEW.topic AND m.sequence <= NEW.through), 0)
  WHERE name = NEW.topic;

  DELETE FROM messages WHERE topic = NEW.topic AND sequence <= NEW.through;

END
