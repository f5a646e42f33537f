"""Tags refer to notes, and those of notes that are gone are set aside."""

from twinstep import ForeignKey, rebuild_table

TO_NOTES = ForeignKey(columns="note", parent="notes", parent_columns="id", on_delete="CASCADE")


def local_up(connection):
    rebuild_table(connection, "tags", add_foreign_keys=[TO_NOTES])


def local_down(connection):
    rebuild_table(connection, "tags", drop_foreign_keys=[TO_NOTES])


def check_local(connection):
    keys = connection.exec_driver_sql("SELECT count(*) FROM pragma_foreign_key_list('tags')").scalar_one()
    if keys != 1:
        raise ValueError(f"tags has {keys} foreign keys, not one")
