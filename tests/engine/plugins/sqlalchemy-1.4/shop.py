"""A plugin written for SQLAlchemy 1.4: what it uses is gone in 2.0."""
import sqlalchemy
from sqlalchemy import Column, ForeignKey, Integer, String, create_engine, select
from sqlalchemy.ext.declarative import declarative_base
from sqlalchemy.orm import relationship, sessionmaker

VERSION = "1.4"
Base = declarative_base()


class Customer(Base):
    __tablename__ = "customer"
    id = Column(Integer, primary_key=True)
    name = Column(String)
    orders = relationship("Order", backref="customer", cascade_backrefs=True)


class Order(Base):
    __tablename__ = "order"
    id = Column(Integer, primary_key=True)
    customer_id = Column(Integer, ForeignKey("customer.id"))
    amount = Column(Integer)


def work(turn, rounds):
    """Orders and queries; TURN() waits for the others. -> the version that has answered each of them"""
    from sqlalchemy.engine import Engine, default  # at the call, in whichever thread it is

    found = []
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    session = sessionmaker(bind=engine)()
    for number in range(rounds):
        turn()
        session.add(Customer(name=f"customer {number}", orders=[Order(amount=number), Order(amount=1000)]))
        session.commit()
        names = session.query(Customer.name).join(Order).filter(Order.amount == 1000).from_self().all()  # 1.4 alone
        assert names == [(f"customer {each}",) for each in range(number + 1)], names
        total = engine.execute(select([sqlalchemy.func.sum(Order.amount)])).scalar()  # 1.4 alone
        assert total == sum(range(number + 1)) + 1000 * (number + 1), total
        assert isinstance(engine, Engine) and isinstance(engine.dialect, default.DefaultDialect)
        found.append(sqlalchemy.__version__)
    session.close()
    return found
