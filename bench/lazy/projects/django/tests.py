from django.contrib.auth.models import User
from django.test import TestCase


class Pages(TestCase):
    def test_home(self):
        self.assertEqual(self.client.get("/").json(), {"path": "/"})

    def test_admin(self):
        User.objects.create_superuser("somebody", password="sample")
        self.assertTrue(self.client.login(username="somebody", password="sample"))
        self.assertContains(self.client.get("/admin/"), "Site administration")
