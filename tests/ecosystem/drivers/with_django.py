"""Django: a table by its schema editor, a transaction that is undone, rows that come back by query."""
import sys
from urllib.parse import urlsplit
import django
from django.conf import settings

at = urlsplit(sys.argv[1])
settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": at.path[1:], "USER": at.username, "PASSWORD": at.password,
    "HOST": at.hostname, "PORT": at.port, "OPTIONS": {"sslmode": "require"}}})
django.setup()

from django.db import connection, models, transaction  # noqa: E402


class Driven(models.Model):
    note = models.CharField(max_length=40, db_index=True)

    class Meta:
        app_label = "driven"
        db_table = "driven_by_django"


with connection.cursor() as cursor:
    cursor.execute("drop table if exists driven_by_django")
with connection.schema_editor() as editor:
    editor.create_model(Driven)
try:
    with transaction.atomic():
        Driven.objects.create(note="undone")
        raise KeyError
except KeyError:
    pass
Driven.objects.bulk_create([Driven(note=f"note {n}") for n in range(1000)])
assert Driven.objects.count() == 1000
assert Driven.objects.filter(note__startswith="note 99").count() == 11
with connection.schema_editor() as editor:
    editor.delete_model(Driven)
