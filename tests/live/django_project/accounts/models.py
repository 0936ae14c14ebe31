# SPDX-License-Identifier: MIT
from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    NICKNAME = "nick"
