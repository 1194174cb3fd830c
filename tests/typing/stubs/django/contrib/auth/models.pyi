from typing import ClassVar

class UserManager:
    def get(self, *, pk: int) -> User: ...
    def create_user(self, username: str, email: str | None = None, password: str | None = None) -> User: ...

class User:
    objects: ClassVar[UserManager]
    pk: int
    email: str
    def get_username(self) -> str: ...
